//! Loading, adopting, attaching and removing the dataplane.
//!
//! I12: programs, links and maps are pinned. Whoever opens the same pin directory again finds every flow, slot
//! and index where it was, and replaces the attached programs by one update of each link.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::ProgramArray;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use lockstep_abi::address::InterfaceValue;
use lockstep_abi::map as names;
use lockstep_model::ids::GroupId;
use lockstep_model::image::{AddressImage, Image};

use crate::answers::{Answer, AnswerTable};
use crate::apply::{self, ApplyReport};
use crate::clock;
use crate::counters::Counters;
use crate::error::DataplaneError;
use crate::events::FlowEvents;
use crate::flows::FlowTable;
use crate::hops::{HopOptions, HopWatcher, KernelHops};
use crate::interfaces::Interface;
use crate::lease::LeaseWriter;
use crate::map::Map;
use crate::maps::Maps;
use crate::object::{OBJECT, definitions};
use crate::pins::Pins;
use crate::sweeper::Sweeper;
use crate::sync_map::sync_map;
use crate::sys;

/// The coarse clock decides only while more than this many of its ticks are left of a lease (DESIGN section 5).
const COARSE_MARGIN_TICKS: u64 = 8;

/// What the dataplane is to be.
#[derive(Debug, Clone)]
pub struct DataplaneConfig {
    /// Interfaces to attach to, all of which must exist.
    pub interfaces: Vec<String>,
    /// This node's folder on a BPF file system; made if absent.
    pub pin_dir: PathBuf,
    /// Flows, of two entries each. Fixed when the maps are first made.
    pub max_flows: u32,
}

/// The dataplane of one node. Dropping it leaves everything in place and forwarding.
pub struct Dataplane {
    config: DataplaneConfig,
    pins: Pins,
    maps: Arc<Maps>,
    counters: Counters,
    /// The sweeper's kernel half, shared with whoever ends flows.
    age: Arc<OwnedFd>,
    adopted: bool,
    /// Whether the flows have been compared with the services since this process opened the maps.
    flows_checked: bool,
}

impl Dataplane {
    /// Loads the programs over new maps, or over those an earlier process left; attaches; switches forwarding on.
    pub fn open(config: DataplaneConfig) -> Result<Self, DataplaneError> {
        let interfaces = Interface::read(&config.interfaces)?;
        let pins = Pins::new(&config.pin_dir);
        let entries = config.max_flows.saturating_mul(2);

        let definitions = definitions()?;
        pins.check(|name| {
            let mut definition = *definitions.get(name)?;
            if name == names::FLOWS {
                definition.max_entries = entries;
            }
            Some(definition)
        })?;
        let adopted = pins.map(names::FLOWS).exists();
        pins.create()?;

        let mut ebpf = load(&pins, entries)?;
        let stages = load_programs(&mut ebpf, &pins)?;
        let maps = Arc::new(Maps::open(&pins)?);
        // An earlier process may have ended with a stale intent; this one finds out for itself.
        maps.leases.refuse_new_flows(false);
        let age = program(&mut ebpf, names::PROGRAM_AGE)?
            .fd()
            .map_err(load_error)?
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| DataplaneError::Load(error.to_string()))?;

        detach_others(&pins, &config.interfaces)?;
        publish_interfaces(&maps, &interfaces)?;
        attach(program(&mut ebpf, names::PROGRAM_ENTRY)?, &pins, &interfaces)?;
        pins.keep_only_stages(&stages)?;
        for interface in &interfaces {
            set_forwarding(&interface.name, true)?;
        }

        let counters = Counters::open(&pins)?;
        Ok(Self { config, pins, maps, counters, age: Arc::new(age), adopted, flows_checked: false })
    }

    /// Whether this found an earlier process's maps (and flows).
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Makes the configuration maps hold `image`, whatever they hold now. `held` says of an address that came
    /// from another group whether it may be served already; one that may not stays silent until a later call.
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
        Ok(report)
    }

    /// The interfaces as they are now.
    pub fn interfaces(&self) -> Result<Vec<Interface>, DataplaneError> {
        Interface::read(&self.config.interfaces)
    }

    /// Interfaces the programs are not on any more, because they went away or somebody detached them: this node
    /// is unfit until it is opened again.
    pub fn detached(&self) -> Result<Vec<String>, DataplaneError> {
        let mut detached = Vec::new();
        for name in &self.config.interfaces {
            let index = nix::net::if_::if_nametoindex(name.as_str()).ok();
            if index.is_none() || index != attached_to(&self.pins.link(name))? {
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
        FlowTable::new(self.maps.clone(), Some(self.age.clone()))
    }

    /// The ring buffer's reader. One at a time: two would each get some of the events.
    pub fn events(&self) -> Result<FlowEvents, DataplaneError> {
        FlowEvents::open(&self.pins, self.maps.clone())
    }

    /// What keeps the next hops. One at a time: two would write over each other.
    pub fn hop_watcher(&self, options: HopOptions) -> Result<HopWatcher<KernelHops>, DataplaneError> {
        HopWatcher::open(KernelHops::new(self.maps.clone()), options)
    }

    /// What ages flows.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.flows())
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

/// Takes out of the kernel what is pinned in `pin_dir`, whether or not a process uses it. Nothing there: nothing to do.
pub fn remove(pin_dir: &Path) -> Result<(), DataplaneError> {
    let pins = Pins::new(pin_dir);
    for interface in pins.linked()? {
        restore_forwarding(&pins, &interface)?;
    }
    pins.remove()
}

fn load(pins: &Pins, flow_entries: u32) -> Result<Ebpf, DataplaneError> {
    let margin = clock::tick().as_nanos() as u64 * COARSE_MARGIN_TICKS;
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(names::FLOWS, flow_entries).override_global(
        names::GLOBAL_COARSE_MARGIN_NS,
        &margin,
        true,
    );
    for name in names::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).map_err(|error| DataplaneError::Load(with_causes(&error)))
}

/// Loads every program and fills the tail calls; answers where those are pinned.
fn load_programs(ebpf: &mut Ebpf, pins: &Pins) -> Result<PathBuf, DataplaneError> {
    for name in [names::PROGRAM_ENTRY, names::PROGRAM_SLOW, names::PROGRAM_LOCAL, names::PROGRAM_AGE] {
        program(ebpf, name)?.load().map_err(load_error)?;
    }
    let path = pins.new_stages()?;
    for (stage, name) in
        [(names::STAGE_SLOW, names::PROGRAM_SLOW), (names::STAGE_LOCAL, names::PROGRAM_LOCAL)]
    {
        let fd = program(ebpf, name)?.fd().map_err(load_error)?.try_clone().map_err(load_error)?;
        let map = ebpf.map_mut(names::STAGES).ok_or_else(|| missing("map", names::STAGES))?;
        ProgramArray::try_from(map).map_err(load_error)?.set(stage, &fd, 0).map_err(load_error)?;
    }
    let map = ebpf.map(names::STAGES).ok_or_else(|| missing("map", names::STAGES))?;
    map.pin(&path).map_err(load_error)?;
    Ok(path)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, DataplaneError> {
    ebpf.program_mut(name).ok_or_else(|| missing("program", name))?.try_into().map_err(load_error)
}

fn missing(what: &str, name: &str) -> DataplaneError {
    DataplaneError::Load(format!("the object has no {what} {name}"))
}

fn load_error(error: impl std::error::Error) -> DataplaneError {
    DataplaneError::Load(with_causes(&error))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Tells the programs the hardware addresses they answer with.
fn publish_interfaces(maps: &Maps, interfaces: &[Interface]) -> Result<(), DataplaneError> {
    let wanted: BTreeMap<u32, InterfaceValue> =
        interfaces.iter().map(|i| (i.index, InterfaceValue { mac: i.mac, pad: [0; 2] })).collect();
    sync_map(&maps.interfaces, names::INTERFACES, wanted.into_iter().collect(), names::MAX_INTERFACES)
}

fn attach(entry: &mut SchedClassifier, pins: &Pins, interfaces: &[Interface]) -> Result<(), DataplaneError> {
    for interface in interfaces {
        let path = pins.link(&interface.name);
        let failed = |error: &dyn std::error::Error| DataplaneError::Attach {
            interface: interface.name.clone(),
            reason: with_causes(error),
        };
        if let Some(link) = usable_link(&path, interface.index)? {
            // One update: a packet meets the old program or the new one, never none.
            let link = SchedClassifierLink::try_from(FdLink::from(link)).map_err(|error| failed(&error))?;
            let id = entry.attach_to_link(link).map_err(|error| failed(&error))?;
            // Taken out of the program's keeping, so that its end does not detach; the pin holds it.
            drop(entry.take_link(id).map_err(|error| failed(&error))?);
            continue;
        }
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = entry
            .attach_with_options(&interface.name, TcAttachType::Ingress, options)
            .map_err(|error| failed(&error))?;
        let link = entry.take_link(id).map_err(|error| failed(&error))?;
        let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
        link.pin(&path).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// The pinned link, if it is still on this interface. One whose interface went away (a deleted and re-created
/// veth) holds nothing: its pin is removed.
fn usable_link(path: &Path, ifindex: u32) -> Result<Option<PinnedLink>, DataplaneError> {
    match attached_to(path)? {
        None => return Ok(None),
        Some(index) if index == ifindex => {}
        Some(_) => {
            std::fs::remove_file(path).map_err(DataplaneError::pin(path))?;
            return Ok(None);
        }
    }
    PinnedLink::from_pin(path).map(Some).map_err(|error| DataplaneError::Pin {
        path: path.into(),
        source: std::io::Error::other(error.to_string()),
    })
}

/// The interface a pinned link is on: 0 if that went away; `None` if there is no pin.
fn attached_to(path: &Path) -> Result<Option<u32>, DataplaneError> {
    match sys::object_get(path) {
        Ok(fd) => sys::tcx_link_ifindex(fd.as_fd()).map(Some).map_err(DataplaneError::pin(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataplaneError::Pin { path: path.into(), source }),
    }
}

/// Detaches from interfaces that the configuration no longer names.
fn detach_others(pins: &Pins, wanted: &[String]) -> Result<(), DataplaneError> {
    for interface in pins.linked()? {
        if wanted.contains(&interface) {
            continue;
        }
        restore_forwarding(pins, &interface)?;
        pins.detach(&interface)?;
    }
    Ok(())
}

fn forwarding_path(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

fn set_forwarding(interface: &str, on: bool) -> Result<(), DataplaneError> {
    let path = forwarding_path(interface);
    std::fs::write(&path, if on { "1" } else { "0" })
        .map_err(|source| DataplaneError::Sysctl { path, source })
}

/// Back to what new interfaces of this namespace get. Before the program goes, so that nothing of the groups'
/// traffic is ever forwarded without it.
///
/// Only for the very interface the link is on: it may be gone, and one of the same name and number may stand in
/// the namespace that this runs in. Hardware addresses tell them apart.
fn restore_forwarding(pins: &Pins, name: &str) -> Result<(), DataplaneError> {
    let Ok(found) = Interface::read(&[name.to_owned()]) else { return Ok(()) };
    let interface = &found[0];
    if attached_to(&pins.link(name))? != Some(interface.index) {
        return Ok(());
    }
    let path = pins.map(names::INTERFACES);
    let known: Map<u32, InterfaceValue> = Map::open(&path).map_err(DataplaneError::pin(&path))?;
    let known = known.get(&interface.index).map_err(DataplaneError::map(names::INTERFACES))?;
    if known.is_none_or(|known| known.mac != interface.mac) {
        return Ok(());
    }
    let path = forwarding_path("default");
    let default = std::fs::read_to_string(&path).map_err(|source| DataplaneError::Sysctl { path, source })?;
    set_forwarding(name, default.trim() == "1")
}
