//! Loading the programs: their maps from the pins, their globals, their tail calls.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use aya::maps::{Map, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use lockstep_abi::map as names;

use crate::age::AgePrograms;
use crate::clock::Ticks;
use crate::error::DataplaneError;
use crate::family::KernelFamily;
use crate::learn::{Learner, Learners};
use crate::object::OBJECT;
use crate::pins::Pins;

/// Opens the object over the pinned maps, or over new ones that it pins.
pub(crate) fn open(pins: &Pins, flow_entries: u32) -> Result<Ebpf, DataplaneError> {
    let ticks = Ticks::measure();
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(names::FLOWS4, flow_entries)
        .map_max_entries(names::FLOWS6, flow_entries)
        .override_global(names::GLOBAL_TICK_NS, &ticks.length_ns, true)
        .override_global(names::GLOBAL_TICK_OFFSET_NS, &ticks.offset_ns, true);
    for name in names::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).map_err(|error| DataplaneError::Load(with_causes(&error)))
}

/// What user space runs over the flow tables.
pub(crate) struct TableStages {
    /// The sweeper's kernel halves.
    pub(crate) age: AgePrograms,
    /// The writer's.
    pub(crate) learn: Learners,
}

/// Loads what will be attached and what user space runs, and fills the tail calls, pinned as build number `build`.
/// XDP's only if an interface has it: an array without programs is never jumped into.
pub(crate) fn load(ebpf: &mut Ebpf, pins: &Pins, build: u64, with_xdp: bool) -> Result<(), DataplaneError> {
    let run = [names::PROGRAM_AGE4, names::PROGRAM_AGE6, names::PROGRAM_LEARN4, names::PROGRAM_LEARN6];
    for name in [names::PROGRAM_TC].into_iter().chain(run) {
        classifier(ebpf, name)?.load().map_err(load_error)?;
    }
    if with_xdp {
        xdp(ebpf, names::PROGRAM_XDP)?.load().map_err(load_error)?;
    }
    for (array, stage, name) in names::STAGE_PROGRAMS {
        let fd = match *array {
            names::TC_STAGES => {
                let program = classifier(ebpf, name)?;
                program.load().map_err(load_error)?;
                program.fd().and_then(copy).map_err(load_error)?
            }
            _ if !with_xdp => continue,
            _ => {
                let program = xdp(ebpf, name)?;
                program.load().map_err(load_error)?;
                program.fd().and_then(copy).map_err(load_error)?
            }
        };
        let map = ebpf.map_mut(array).ok_or_else(|| missing("map", array))?;
        ProgramArray::try_from(map).map_err(load_error)?.set(*stage, &fd, 0).map_err(load_error)?;
    }
    for array in [names::TC_STAGES, names::XDP_STAGES] {
        let map = ebpf.map(array).ok_or_else(|| missing("map", array))?;
        map.pin(pins.stages_of(build, array)).map_err(load_error)?;
    }
    Ok(())
}

fn copy(fd: &ProgramFd) -> Result<ProgramFd, aya::programs::ProgramError> {
    fd.try_clone().map_err(aya::programs::ProgramError::IOError)
}

/// What [`load`] has loaded for it.
pub(crate) fn table_stages(ebpf: &mut Ebpf) -> Result<TableStages, DataplaneError> {
    let age = AgePrograms {
        v4: descriptor(ebpf, names::PROGRAM_AGE4)?,
        v6: descriptor(ebpf, names::PROGRAM_AGE6)?,
    };
    let learn = Learners {
        v4: Mutex::new(learner(ebpf, names::PROGRAM_LEARN4, names::LEARN4)?),
        v6: Mutex::new(learner(ebpf, names::PROGRAM_LEARN6, names::LEARN6)?),
    };
    Ok(TableStages { age, learn })
}

fn learner<A: KernelFamily>(
    ebpf: &mut Ebpf,
    program: &str,
    array: &'static str,
) -> Result<Learner<A>, DataplaneError> {
    let program = descriptor(ebpf, program)?;
    let Some(Map::Array(map)) = ebpf.map(array) else { return Err(missing("array", array)) };
    Learner::new(program, map.fd()).map_err(DataplaneError::map(array))
}

fn descriptor(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd, DataplaneError> {
    let fd = classifier(ebpf, name)?.fd().map_err(load_error)?;
    fd.as_fd().try_clone_to_owned().map_err(load_error)
}

pub(crate) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, DataplaneError> {
    ebpf.program_mut(name).ok_or_else(|| missing("program", name))?.try_into().map_err(load_error)
}

pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DataplaneError> {
    ebpf.program_mut(name).ok_or_else(|| missing("program", name))?.try_into().map_err(load_error)
}

fn missing(what: &str, name: &str) -> DataplaneError {
    DataplaneError::Load(format!("the object has no {what} {name}"))
}

fn load_error(error: impl std::error::Error) -> DataplaneError {
    DataplaneError::Load(with_causes(&error))
}

/// An error with what it was caused by, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
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
