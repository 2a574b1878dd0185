//! Loading, adopting, attaching and removing the dataplane.
//!
//! I12: programs, links and maps are pinned. Whoever opens the same pin directory again finds every flow, slot
//! and index where it was, and replaces the attached programs by one update of each link.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::Ebpf;
use lockstep_abi::address::{InterfaceValue, MacValue};
use lockstep_abi::map as names;
use lockstep_model::ids::GroupId;
use lockstep_model::image::{AddressImage, Image};

use crate::answers::{Answer, AnswerTable};
use crate::apply::{self, ApplyReport};
use crate::attach::attach;
use crate::counters::Counters;
use crate::error::DataplaneError;
use crate::events::FlowEvents;
use crate::flows::FlowTable;
use crate::forwarding;
use crate::grace::wait_grace_period;
use crate::hook::{self, Choice, Hook, HookReport, InterfaceConfig};
use crate::hops::{HopOptions, HopWatcher, KernelHops};
use crate::interfaces::Interface;
use crate::lease::LeaseWriter;
use crate::maps::Maps;
use crate::object::definitions;
use crate::pins::{Attached, Pins};
use crate::port_usage::PortUsage;
use crate::programs::{self, TableStages};
use crate::sweeper::Sweeper;
use crate::sync_map::sync_map;
use crate::sys;

/// What the dataplane is to be.
#[derive(Debug, Clone)]
pub struct DataplaneConfig {
    /// Interfaces to attach to, all of which must exist.
    pub interfaces: Vec<InterfaceConfig>,
    /// This node's folder on a BPF file system; made if absent.
    pub pin_dir: PathBuf,
    /// Flows of each family, of two entries each. Fixed when the maps are first made.
    pub max_flows: u32,
}

impl DataplaneConfig {
    fn names(&self) -> Vec<String> {
        self.interfaces.iter().map(|interface| interface.name.clone()).collect()
    }
}

/// The dataplane of one node. Dropping it leaves everything in place and forwarding.
pub struct Dataplane {
    config: DataplaneConfig,
    pins: Pins,
    maps: Arc<Maps>,
    counters: Counters,
    /// Shared with whoever changes flows.
    stages: Arc<TableStages>,
    /// What is attached, for interfaces that return.
    programs: Ebpf,
    choices: Vec<Choice>,
    hooks: Vec<HookReport>,
    adopted: bool,
    /// Whether the flows have been compared with the services since this process opened the maps.
    flows_checked: bool,
    /// Whether forwarding was switched on.
    forwards: bool,
}

impl Dataplane {
    /// Loads the programs over new maps, or over those an earlier process left, and attaches. Forwarding is on
    /// with the first [`Self::apply`], or at once over maps that were left.
    pub fn open(config: DataplaneConfig) -> Result<Self, DataplaneError> {
        check(&config)?;
        let interfaces = Interface::read(&config.names())?;
        let pins = Pins::new(&config.pin_dir);
        let entries = flow_entries(config.max_flows);
        let adopted = pins.map(names::FLOWS4).exists();
        pins.create()?;

        let choices: Vec<Choice> =
            config.interfaces.iter().map(|wanted| hook::choose(&wanted.name, wanted.hook)).collect();
        let with_xdp = choices.iter().any(|choice| choice.hook != Hook::Tc);
        let mut programs = programs::open(&pins, entries)?;
        let build = pins.new_build()?;
        programs::load(&mut programs, &pins, build, with_xdp)?;
        let maps = Arc::new(Maps::open(&pins)?);
        // An earlier process may have ended with a stale intent; this one finds out for itself.
        maps.leases.refuse_new_flows(false);
        begin_hop_stamps(&maps)?;
        let stages = programs::table_stages(&mut programs)?;

        detach_others(&pins, &config.names())?;
        publish_interfaces(&maps, &interfaces)?;
        let hooks = attach(&mut programs, &pins, &interfaces, &choices)?;
        // A packet may still be in the programs that were replaced; their tail calls end with the last pin.
        wait_grace_period().map_err(DataplaneError::pin(&config.pin_dir))?;
        pins.keep_only_build(build)?;
        if adopted {
            forwarding::switch_on(&pins, &interfaces)?;
        }

        let counters = Counters::open(&pins)?;
        let stages = Arc::new(stages);
        let (flows_checked, forwards) = (false, adopted);
        Ok(Self {
            config,
            pins,
            maps,
            counters,
            stages,
            programs,
            choices,
            hooks,
            adopted,
            flows_checked,
            forwards,
        })
    }

    /// Whether this found an earlier process's maps (and flows).
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Where each interface's packets meet the programs, and why there.
    pub fn hooks(&self) -> &[HookReport] {
        &self.hooks
    }

    /// Makes the configuration maps hold `image`, whatever they hold now. `held` says of an address that came
    /// from another group whether it may be served already; one that may not stays silent until a later call.
    ///
    /// The first call switches forwarding on, unless an earlier process has: a kernel that forwards and does not know the
    /// addresses would take their packets for somebody else's.
    ///
    /// Level-triggered: after a failure half way, the next call starts from what the kernel then holds.
    pub fn apply(
        &mut self,
        image: &Image,
        held: impl Fn(&AddressImage) -> bool,
    ) -> Result<ApplyReport, DataplaneError> {
        let interfaces = self.interfaces()?;
        publish_interfaces(&self.maps, &interfaces)?;
        let report = apply::apply(&self.maps, &self.flows(), &interfaces, image, &held, !self.flows_checked)?;
        self.flows_checked = true;
        if !self.forwards {
            forwarding::switch_on(&self.pins, &interfaces)?;
            self.forwards = true;
        }
        Ok(report)
    }

    /// The interfaces as they are now; those that went away are left out.
    pub fn interfaces(&self) -> Result<Vec<Interface>, DataplaneError> {
        Interface::present(&self.config.names())
    }

    /// Attaches the programs again to what is [`Self::detached`] and is there. Answers where.
    pub fn reattach(&mut self) -> Result<Vec<HookReport>, DataplaneError> {
        let detached = self.detached()?;
        if detached.is_empty() {
            return Ok(Vec::new());
        }
        let present = self.interfaces()?;
        // As when everything is opened: programs that know their interfaces, and only then forwarding.
        publish_interfaces(&self.maps, &present)?;
        let of = |name: &str| self.config.interfaces.iter().position(|wanted| wanted.name == name);
        let mut reports = Vec::new();
        for interface in present.into_iter().filter(|interface| detached.contains(&interface.name)) {
            let Some(index) = of(&interface.name) else { continue };
            let (one, choice) = (std::slice::from_ref(&interface), &self.choices[index..=index]);
            let report = attach(&mut self.programs, &self.pins, one, choice)?;
            if self.forwards {
                forwarding::switch_on(&self.pins, one)?;
            }
            self.hooks[index..=index].clone_from_slice(&report);
            reports.extend(report);
        }
        Ok(reports)
    }

    /// Interfaces the programs are not on any more, because they went away or somebody detached them: this node
    /// is unfit until it has [`Self::reattach`]ed them.
    pub fn detached(&self) -> Result<Vec<String>, DataplaneError> {
        let mut detached = Vec::new();
        for hook in &self.hooks {
            let name = &hook.interface;
            let index = nix::net::if_::if_nametoindex(name.as_str()).ok();
            let wanted = [Attached::Tc, Attached::Xdp, Attached::XdpGeneric].into_iter();
            let wanted = wanted.filter(|at| *at == Attached::Tc || at.hook() == hook.hook);
            let mut attached = index.is_some();
            for at in wanted {
                attached &= self.pins.link(name, at).index()? == index;
            }
            if !attached {
                detached.push(name.clone());
            }
        }
        Ok(detached)
    }

    /// Where the kernel answers for the group's addresses (while the lease holds): what to announce.
    pub fn answering(&self, group: GroupId) -> Result<Vec<Answer>, DataplaneError> {
        self.answers().of(group)
    }

    /// A handle for [`Self::answering`] that other threads may keep.
    pub fn answers(&self) -> AnswerTable {
        AnswerTable::new(self.maps.clone())
    }

    /// A handle for the lease thread.
    pub fn lease_writer(&self) -> LeaseWriter {
        LeaseWriter::new(self.maps.clone())
    }

    /// A handle to the flows.
    pub fn flows(&self) -> FlowTable {
        FlowTable::new(self.maps.clone(), Some(self.stages.clone()))
    }

    /// The ring buffer's reader. One at a time: two would each get some of the events.
    pub fn events(&self) -> Result<FlowEvents, DataplaneError> {
        FlowEvents::open(&self.pins, self.maps.clone())
    }

    /// What keeps the next hops. One at a time: two would write over each other.
    pub fn hop_watcher(&self, options: HopOptions) -> Result<HopWatcher<KernelHops>, DataplaneError> {
        HopWatcher::open(KernelHops::new(self.maps.clone()), options)
    }

    /// What ages flows. One at a time: each writes what it has counted.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.flows())
    }

    /// The source ports in use of each address that has some, as of the sweeper's last pass; nothing before the
    /// first.
    pub fn port_usage(&self) -> Vec<PortUsage> {
        self.maps.port_usage.get().to_vec()
    }

    /// Every reason with its count over all CPUs, also at zero.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, DataplaneError> {
        self.counters.read()
    }

    /// A handle to the counters that other threads may keep.
    pub fn counter_table(&self) -> Counters {
        self.counters.clone()
    }

    /// Takes everything out of the kernel: forwarding off, programs detached, maps and flows gone.
    pub fn detach_and_unpin(self) -> Result<(), DataplaneError> {
        remove(&self.config.pin_dir)
    }
}

/// Refuses what [`Dataplane::open`] would refuse before it touches anything: an interface that does not exist, and
/// pins that this build cannot go on with. Only looks.
pub fn check(config: &DataplaneConfig) -> Result<(), DataplaneError> {
    Interface::read(&config.names())?;
    let pins = Pins::new(&config.pin_dir);
    pins.refuse_others()?;
    check_pins(&pins, config.max_flows)
}

/// Two entries a flow.
fn flow_entries(max_flows: u32) -> u32 {
    max_flows.saturating_mul(2)
}

/// Refuses what is pinned and is not as this version needs it.
pub(crate) fn check_pins(pins: &Pins, max_flows: u32) -> Result<(), DataplaneError> {
    let definitions = definitions()?;
    pins.check(|name| {
        let mut definition = *definitions.get(name)?;
        if [names::FLOWS4, names::FLOWS6].contains(&name) {
            definition.max_entries = flow_entries(max_flows);
        }
        Some(definition)
    })
}

/// Takes out of the kernel what is pinned in `pin_dir`, by this version or another, whether or not a process uses
/// it. Nothing there: nothing to do.
pub fn remove(pin_dir: &Path) -> Result<(), DataplaneError> {
    for pins in Pins::of_every_schema(pin_dir)? {
        let mut here = false;
        for interface in pins.linked()? {
            here |= forwarding::restore(&pins, &interface)?;
        }
        if here {
            forwarding::restore_all(&pins)?;
        }
        pins.remove()?;
    }
    Pins::new(pin_dir).remove()
}

/// Indexes in flows are stamped, and 0 is no stamp.
fn begin_hop_stamps(maps: &Maps) -> Result<(), DataplaneError> {
    let failed = DataplaneError::map(names::HOP_STAMP);
    if maps.hop_stamp.get(&0).map_err(&failed)?.unwrap_or_default() == 0 {
        maps.hop_stamp.put(&0, &1, sys::ANY).map_err(&failed)?;
    }
    Ok(())
}

/// Tells the programs the hardware addresses they answer with and listen to.
fn publish_interfaces(maps: &Maps, interfaces: &[Interface]) -> Result<(), DataplaneError> {
    let wanted: BTreeMap<u32, InterfaceValue> =
        interfaces.iter().map(|i| (i.index, InterfaceValue { mac: i.mac, pad: [0; 2] })).collect();
    sync_map(&maps.interfaces, names::INTERFACES, wanted.into_iter().collect(), names::MAX_INTERFACES)?;

    let failed = DataplaneError::map(names::MACS);
    let mut macs = vec![MacValue::default(); names::MAX_MACS as usize];
    // Of several that share an element, the first has it.
    for interface in interfaces.iter().rev() {
        let value = MacValue { ifindex: interface.index, mac: interface.mac, pad: [0; 2] };
        macs[(interface.index % names::MAX_MACS) as usize] = value;
    }
    let found = maps.macs.slice(0, macs.len()).map_err(&failed)?;
    for ((index, wanted), found) in (0u32..).zip(&macs).zip(&found) {
        if wanted != found {
            maps.macs.put(&index, wanted, sys::ANY).map_err(&failed)?;
        }
    }
    Ok(())
}

/// Detaches from interfaces that the configuration no longer names.
fn detach_others(pins: &Pins, wanted: &[String]) -> Result<(), DataplaneError> {
    let unwanted: Vec<String> =
        pins.linked()?.into_iter().filter(|interface| !wanted.contains(interface)).collect();
    for interface in &unwanted {
        forwarding::restore(pins, interface)?;
    }
    for pin in pins.link_pins()?.iter().filter(|pin| unwanted.contains(&pin.interface)) {
        pin.detach()?;
    }
    Ok(())
}
