//! Loaded instances of the programs, which tests share one after the other: to load and free the programs for each
//! test would take the kernel's time and, many at once, its life.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use aya::maps::{MapData, ProgramArray};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use lockstep_abi::map;

use crate::clock::Ticks;
use crate::table::Tables;

/// Room in the maps whose size tests differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    /// Flow entries of a family.
    pub(crate) flows: u32,
    pub(crate) event_bytes: u32,
    pub(crate) affinity: u32,
}

impl Size {
    pub(crate) const ORDINARY: Self = Self { flows: 1024, event_bytes: 1 << 24, affinity: 64 };

    /// For what fills a map at once.
    pub(crate) const SMALL: Self = Self { flows: 64, event_bytes: 1 << 16, affinity: 2 };

    /// So many instances there may be at once.
    fn most(self) -> usize {
        if self == Self::ORDINARY { 2 } else { 1 }
    }
}

/// The programs in the kernel with maps of their own.
pub(crate) struct Loaded {
    size: Size,
    pub(crate) ebpf: Ebpf,
    pub(crate) tables: Tables,
}

struct Pool {
    idle: Vec<Loaded>,
    made: BTreeMap<Size, usize>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), made: BTreeMap::new() });
static GIVEN_BACK: Condvar = Condvar::new();

/// Takes an instance of this size with empty maps, and waits for one if need be.
pub(crate) fn take(size: Size) -> Loaded {
    let mut pool = POOL.lock().unwrap();
    let loaded = loop {
        if let Some(position) = pool.idle.iter().position(|loaded| loaded.size == size) {
            break pool.idle.swap_remove(position);
        }
        let made = pool.made.entry(size).or_default();
        if *made < size.most() {
            *made += 1;
            // Under the lock: one load at a time.
            break load(size);
        }
        pool = GIVEN_BACK.wait(pool).unwrap();
    };
    drop(pool);
    loaded.tables.clear();
    loaded
}

/// Gives an instance back, attached to nothing.
pub(crate) fn give_back(loaded: Loaded) {
    POOL.lock().unwrap().idle.push(loaded);
    GIVEN_BACK.notify_all();
}

/// How many versions there is room for.
pub(crate) const VERSIONS: u32 = 4;
/// Elements of maps that need few.
const FEW: u32 = 64;

fn load(size: Size) -> Loaded {
    let ticks = Ticks::measure();
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(map::FLOWS4, size.flows)
        .map_max_entries(map::FLOWS6, size.flows)
        .map_max_entries(map::EVENTS, size.event_bytes)
        .map_max_entries(map::AFFINITY, size.affinity)
        .map_max_entries(map::VERSIONS, VERSIONS)
        .map_max_entries(map::TURNS, VERSIONS)
        .map_max_entries(map::MAGLEV, VERSIONS * map::MAGLEV_WORDS)
        .map_max_entries(map::ENDPOINTS, VERSIONS * map::MAX_ENDPOINTS)
        .override_global(map::GLOBAL_TICK_NS, &ticks.length_ns, true)
        .override_global(map::GLOBAL_TICK_OFFSET_NS, &ticks.offset_ns, true);
    let few = [
        map::ADDRESS_INDEX4,
        map::ADDRESS_INDEX6,
        map::ADDRESSES,
        map::ANSWERS,
        map::GUARDS4,
        map::GUARDS6,
        map::HOPS,
        map::HOP_INDEX,
        map::LEASES,
        map::POSITIONS,
        map::RANGES4,
        map::RANGES6,
        map::SERVICES4,
        map::SERVICES6,
        map::SERVICE_LOADS,
        map::SERVICE_TIMEOUTS,
        map::SNAT_SETS,
        map::SOURCES,
        map::TARGETS,
        map::TARGET_LOADS,
    ];
    for name in few {
        loader.map_max_entries(name, FEW);
    }
    let mut ebpf = loader.load(lockstep_loader::OBJECT).unwrap();
    for name in [map::PROGRAM_TC, map::PROGRAM_AGE4, map::PROGRAM_AGE6] {
        classifier(&mut ebpf, name).load().unwrap();
    }
    xdp(&mut ebpf, map::PROGRAM_XDP).load().unwrap();
    for (array, stage, name) in map::STAGE_PROGRAMS {
        let fd = if *array == map::TC_STAGES {
            let program = classifier(&mut ebpf, name);
            program.load().unwrap();
            program.fd().unwrap().try_clone().unwrap()
        } else {
            let program = xdp(&mut ebpf, name);
            program.load().unwrap();
            program.fd().unwrap().try_clone().unwrap()
        };
        let mut stages: ProgramArray<&mut MapData> = ebpf.map_mut(array).unwrap().try_into().unwrap();
        stages.set(*stage, &fd, 0).unwrap();
    }
    let tables = Tables::of(&ebpf);
    Loaded { size, ebpf, tables }
}

pub(crate) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}")).try_into().unwrap()
}

pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}")).try_into().unwrap()
}
