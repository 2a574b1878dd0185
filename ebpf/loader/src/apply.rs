//! From the agreed image to the kernel's maps.
//!
//! Everything is decided by what the kernel holds now, so that this can run at any time and after any crash.
//! What packets depend on is written from the leaves up and removed from the root down:
//!
//! ```text
//! lease slots ─► addresses ─► versions (endpoints, Maglev table, header) ─► guards, transit ─► services ─► answers
//! answers, services ─► address index ─► flows that lost their service ─► guards, transit, addresses ─► lease slots
//! ```

mod addresses;
mod guards;
mod services;

use std::collections::HashMap;

use lockstep_abi::map as names;
use lockstep_model::ids::GroupId;
use lockstep_model::image::{AddressImage, Image};

use crate::directory::Directory;
use crate::error::DataplaneError;
use crate::flows::FlowTable;
use crate::interfaces::Interface;
use crate::maps::Maps;
use crate::sync_map::{put_missing, remove_others};

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
    pub withheld: Vec<std::net::IpAddr>,
    /// Flows that ended because their service, frontend or group is gone.
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
    let mut apply =
        Apply { maps, interfaces, image, held, report: ApplyReport::default(), slots: HashMap::new() };

    apply.assign_slots()?;
    let addresses = apply.write_addresses()?;
    let mut guards = apply.wanted_guards();
    let transit = apply.wanted_transit();
    let answers = apply.wanted_answers(&addresses);

    let written = put_missing(&maps.guards, names::GUARDS, &guards, names::MAX_GUARDS)?
        + put_missing(&maps.transit, names::TRANSIT, &transit, names::MAX_TRANSIT)?;
    apply.report.note(written, "guards written");
    apply.publish_services()?;
    let written = put_missing(&maps.answers, names::ANSWERS, &answers, names::MAX_ANSWERS)?;
    apply.report.note(written, "answers written");

    let removed = remove_others(&maps.answers, names::ANSWERS, &answers)?;
    apply.report.note(removed, "answers removed");
    let mut ended = apply.remove_services()?;
    ended |= apply.remove_addresses(&addresses)?;
    if ended || check_flows {
        apply.end_flows(flows)?;
    }
    apply.keep_guards_of_flows(&mut guards, flows)?;
    let removed = remove_others(&maps.guards, names::GUARDS, &guards)?
        + remove_others(&maps.transit, names::TRANSIT, &transit)?;
    apply.report.note(removed, "guards removed");
    apply.free_indexes(&addresses)?;
    apply.free_slots();
    apply.free_versions()?;
    Ok(apply.report)
}

impl Apply<'_> {
    /// Ends flows whose frontend no longer leads to the service that made them.
    fn end_flows(&mut self, flows: &FlowTable) -> Result<(), DataplaneError> {
        let mut directory = Directory::new(self.maps);
        self.report.flows_ended = flows.end_where(|value| {
            let frontend = directory.frontend(&value.key)?;
            Ok(frontend.is_none_or(|f| f.service != value.service || f.address_index != value.address_index))
        })?;
        let ended = self.report.flows_ended as usize;
        self.report.note(ended, "flows ended with their service");
        Ok(())
    }
}
