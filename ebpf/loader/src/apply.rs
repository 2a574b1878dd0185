//! From the agreed image to the kernel's maps.
//!
//! Everything is decided by what the kernel holds now, so that this can run at any time and after any crash.
//! What packets depend on is written from the leaves up and removed from the root down:
//!
//! ```text
//! lease slots ─► addresses ─► service slots, targets ─► guards, transit ─► versions (endpoints, Maglev table, header)
//!   ─► services, ranges ─► rule sets ─► rule sources ─► answers
//! answers, services, rule sources, address index ─► (grace period) versions, rule sets
//!   ─► flows that lost their service or rule ─► guards, transit, targets, service slots, addresses ─► lease slots
//! ```
//!
//! An endpoint that takes no new flows (drained, disabled, or removed) keeps those it has: nothing here ends a flow
//! whose service is still there.

mod addresses;
mod answers;
mod flows;
mod guards;
mod ports;
mod publish;
mod services;
mod snat;
mod targets;
mod transit;
mod version;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lockstep_abi::map as names;
use lockstep_model::ids::GroupId;
use lockstep_model::image::{AddressImage, Image};

use self::addresses::AddressRef;
use crate::answers::Answer;
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::flows::FlowTable;
use crate::grace::wait_grace_period;
use crate::interfaces::Interface;
use crate::maps::Maps;
use crate::sync_map::{put_missing, remove_others};
use crate::trie::put_missing_prefixes;

/// What [`crate::Dataplane::apply`] changed, and what it could not do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyReport {
    /// One line per change, for logs.
    pub changes: Vec<String>,
    /// Why this node cannot serve a group, by group.
    pub unfit: Vec<(GroupId, String)>,
    /// What the image asks for beyond what the dataplane can do, and what was done instead.
    pub warnings: Vec<String>,
    /// Addresses not served yet because another group's lease may still be running: apply again later.
    pub withheld: Vec<IpAddr>,
    /// Where each group's addresses are answered while its lease holds.
    pub answers: BTreeMap<GroupId, BTreeSet<Answer>>,
    /// Flows that ended because their service, frontend, rule or group is gone.
    pub flows_ended: u64,
}

impl ApplyReport {
    fn note(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.changes.push(format!("{what}: {count}"));
        }
    }
}

/// One run: what it works with.
struct Apply<'a> {
    maps: &'a Maps,
    interfaces: &'a [Interface],
    image: &'a Image,
    held: &'a dyn Fn(&AddressImage) -> bool,
    report: ApplyReport,
    /// Lease slot by group, for the groups of the image.
    slots: HashMap<GroupId, u32>,
    /// Where the addresses of the image are.
    addresses: HashMap<IpAddr, AddressRef>,
}

/// Makes the maps hold the image. `check_flows`: end flows without a service even if nothing was removed now
/// (an earlier process may have died between the two).
pub(crate) fn apply(
    maps: &Maps,
    flows: &FlowTable,
    interfaces: &[Interface],
    image: &Image,
    held: &dyn Fn(&AddressImage) -> bool,
    check_flows: bool,
) -> Result<ApplyReport, DataplaneError> {
    let mut apply = Apply {
        maps,
        interfaces,
        image,
        held,
        report: ApplyReport::default(),
        slots: HashMap::new(),
        addresses: HashMap::new(),
    };
    apply.assign_slots()?;
    apply.write_addresses()?;
    apply.assign_service_slots()?;
    apply.assign_targets()?;
    let mut v4 = apply.write_surroundings::<V4>()?;
    let mut v6 = apply.write_surroundings::<V6>()?;
    apply.publish::<V4>()?;
    apply.publish::<V6>()?;
    apply.publish_rules::<V4>()?;
    apply.publish_rules::<V6>()?;
    let answers = apply.wanted_answers();
    let written = put_missing(&maps.answers, names::ANSWERS, &answers, names::MAX_ANSWERS)?;
    apply.report.note(written, "answers written");

    let removed = remove_others(&maps.answers, names::ANSWERS, &answers)?;
    apply.report.note(removed, "answers removed");
    let mut ended = apply.remove_frontends::<V4>()? | apply.remove_frontends::<V6>()?;
    ended |= apply.remove_rules::<V4>()? | apply.remove_rules::<V6>()?;
    ended |= apply.remove_addresses::<V4>()? | apply.remove_addresses::<V6>()?;
    apply.free_unnamed()?;
    if ended || check_flows {
        let ended = flows.end_orphans()?;
        apply.report.flows_ended = ended;
        apply.report.note(ended as usize, "flows ended with their service");
    }
    let idle = apply.keep_what_flows_need(flows, &mut v4, &mut v6)?;
    apply.remove_surroundings(&v4)?;
    apply.remove_surroundings(&v6)?;
    maps.targets.free(&idle)?;
    apply.free_service_slots()?;
    apply.free_addresses()?;
    apply.free_slots();
    Ok(apply.report)
}

/// What surrounds the services of a family, as it should be.
struct Surroundings<A: KernelFamily> {
    guards: guards::Guards<A>,
    transit: transit::Networks<A>,
}

impl Apply<'_> {
    /// Writes what is missing of guards and transit.
    fn write_surroundings<A: KernelFamily>(&mut self) -> Result<Surroundings<A>, DataplaneError> {
        let wanted = Surroundings { guards: self.wanted_guards(), transit: self.wanted_transit() };
        let maps = A::maps(self.maps);
        let written = put_missing(&maps.guards, A::NAMES.guards, &wanted.guards, names::MAX_GUARDS)?
            + put_missing_prefixes(&maps.transit, A::NAMES.transit, &wanted.transit, names::MAX_TRANSIT)?;
        self.report.note(written, "guards written");
        Ok(wanted)
    }

    fn remove_surroundings<A: KernelFamily>(
        &mut self,
        wanted: &Surroundings<A>,
    ) -> Result<(), DataplaneError> {
        let maps = A::maps(self.maps);
        let removed = remove_others(&maps.guards, A::NAMES.guards, &wanted.guards)?
            + remove_others(&maps.transit, A::NAMES.transit, &wanted.transit)?;
        self.report.note(removed, "guards removed");
        Ok(())
    }

    /// Frees versions and rule sets that nothing names any more, after a grace period: a program may be half way
    /// through one, and make a flow of it.
    fn free_unnamed(&self) -> Result<(), DataplaneError> {
        let versions = self.unnamed_versions()?;
        let sets = self.unnamed_sets()?;
        if versions.is_empty() && sets.is_empty() {
            return Ok(());
        }
        wait_grace_period().map_err(DataplaneError::map(names::VERSIONS))?;
        self.free_versions(&versions)?;
        self.free_sets(&sets)
    }
}
