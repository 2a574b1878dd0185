//! What is in the kernel already, for looking only: what each schema has pinned, what else is attached to an
//! interface, and what attaching would choose. Nothing here changes anything.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};

use crate::clock::Ticks;
use crate::dataplane::check_pins;
use crate::error::DataplaneError;
use crate::hook::{self, Hook, HookReport};
use crate::pins::Pins;
use crate::programs::with_causes;
use crate::sys;

/// What one schema has pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedSchema {
    /// Its folder.
    pub path: PathBuf,
    /// Whether it is this version's.
    pub current: bool,
    /// Its attachments.
    pub links: Vec<PinnedLink>,
}

/// A pinned attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedLink {
    /// The pin.
    pub path: PathBuf,
    /// The interface it was made for.
    pub interface: String,
    /// Where it is attached.
    pub hook: Hook,
    /// The interface it is on, by number: 0 if that has gone.
    pub ifindex: u32,
    /// The program's number in the kernel.
    pub program: u32,
}

/// A program on an interface, whoever put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Its number in the kernel.
    pub id: u32,
    /// The name it was loaded with; may be empty.
    pub name: String,
}

/// What each schema has pinned in `pin_dir`; nothing, if there is no such folder.
pub fn pinned(pin_dir: &Path) -> Result<Vec<PinnedSchema>, DataplaneError> {
    let current = Pins::new(pin_dir);
    let schema = |pins: Pins| {
        let links = pins.link_pins()?.into_iter().map(|pin| {
            let fd = sys::object_get(&pin.path).map_err(DataplaneError::pin(&pin.path))?;
            let link = sys::link(fd.as_fd()).map_err(DataplaneError::pin(&pin.path))?;
            Ok(PinnedLink {
                path: pin.path,
                interface: pin.interface,
                hook: pin.at.hook(),
                ifindex: link.ifindex,
                program: link.program,
            })
        });
        let links = links.collect::<Result<Vec<_>, DataplaneError>>()?;
        Ok(PinnedSchema { path: pins.folder().into(), current: pins.folder() == current.folder(), links })
    };
    Pins::of_every_schema(pin_dir)?.into_iter().map(schema).collect()
}

/// Whether this version could go on with the maps that are pinned in `pin_dir`, for so many flows.
pub fn pins_fit(pin_dir: &Path, max_flows: u32) -> Result<(), DataplaneError> {
    check_pins(&Pins::new(pin_dir), max_flows)
}

/// The programs at an interface's tcx ingress, in the order in which packets meet them.
pub fn programs_at_tcx(interface: &str) -> Result<Vec<AttachedProgram>, DataplaneError> {
    let found = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).map_err(|error| {
        DataplaneError::Attach { interface: interface.to_owned(), reason: with_causes(&error) }
    })?;
    let attached = |program: aya::programs::ProgramInfo| AttachedProgram {
        id: program.id(),
        name: program.name_as_str().unwrap_or_default().to_owned(),
    };
    Ok(found.1.into_iter().map(attached).collect())
}

/// The hook that would be tried for an interface, and why.
pub fn hook_for(interface: &str, wanted: Hook) -> HookReport {
    let choice = hook::choose(interface, wanted);
    HookReport { interface: interface.to_owned(), hook: choice.hook, why: choice.why }
}

/// What of an interface's hardware does with received packets disagrees with XDP.
pub fn offloads(interface: &str) -> Vec<&'static str> {
    hook::offloads(interface)
}

/// The length of the kernel's tick; `None` if it cannot be told apart from the clock, so that each packet reads
/// the precise one.
pub fn tick() -> Option<Duration> {
    let ticks = Ticks::measure();
    (ticks.length_ns != 0).then_some(Duration::from_nanos(ticks.length_ns))
}
