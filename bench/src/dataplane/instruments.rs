//! The benchmark's own programs and tables, loaded.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, ensure};
use aya::programs::{Program, Xdp};
use aya::{Ebpf, EbpfLoader};
use lockstep_abi::flow::FlowKey6;

use crate::bpf::{self, Input, Ran};
use crate::lockstep::{Family, Hook};
use crate::object::OBJECT;
use crate::packet::Flows;
use crate::plan::{Plan, SOURCE};

/// Everything of `../programs`.
pub(crate) struct Instruments {
    ebpf: Ebpf,
}

impl Instruments {
    /// Loads all programs, with tables for `max_flows`, beside a dataplane whose maps are pinned in `maps`.
    pub(crate) fn load(max_flows: u32, maps: &Path) -> anyhow::Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("TABLE4", max_flows)
            .map_max_entries("TABLE6", max_flows)
            .map_pin_path("FLOWS4", maps.join("FLOWS4"))
            .map_pin_path("FLOWS6", maps.join("FLOWS6"))
            .load(OBJECT)
            .context("the benchmark's object cannot be loaded")?;
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => anyhow::bail!("the object has a program {name} of another type"),
            };
            loaded.with_context(|| format!("the program {name} cannot be loaded"))?;
        }
        Ok(Instruments { ebpf })
    }

    pub(crate) fn program(&self, name: &str) -> anyhow::Result<BorrowedFd<'_>> {
        let program = self.ebpf.program(name).with_context(|| format!("the object has no program {name}"))?;
        let fd = match program {
            Program::Xdp(program) => program.fd(),
            Program::SchedClassifier(program) => program.fd(),
            _ => anyhow::bail!("{name} is of another type"),
        };
        Ok(fd.with_context(|| format!("{name} is not loaded"))?.as_fd())
    }

    /// The one of a hook and family, such as `xdp_wrap4`.
    pub(crate) fn of(&self, hook: Hook, what: &str, family: Family) -> anyhow::Result<BorrowedFd<'_>> {
        self.program(&format!("{}_{what}{}", hook.name(), number(family)))
    }

    pub(crate) fn empty(&self, hook: Hook) -> anyhow::Result<BorrowedFd<'_>> {
        self.program(&format!("{}_empty", hook.name()))
    }

    pub(crate) fn xdp(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        let program =
            self.ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
        program.try_into().with_context(|| format!("{name} is of another type"))
    }

    fn map(&self, name: &str) -> anyhow::Result<BorrowedFd<'_>> {
        use aya::maps::Map;
        let map = self.ebpf.map(name).with_context(|| format!("the object has no map {name}"))?;
        match map {
            Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::ProgramArray(data) => {
                Ok(data.fd().as_fd())
            }
            _ => anyhow::bail!("the map {name} is of another type"),
        }
    }

    /// Lets wrappers continue in `target`.
    pub(crate) fn aim(&self, hook: Hook, target: BorrowedFd<'_>) -> anyhow::Result<()> {
        let map = self.map(match hook {
            Hook::Xdp => "TARGET_XDP",
            Hook::Tc => "TARGET_TC",
        })?;
        bpf::update(map, &0u32.to_ne_bytes(), &target.as_raw_fd().to_ne_bytes())
            .context("the program under test cannot be called from a wrapper")
    }

    /// The flows that come next, from the first on.
    pub(crate) fn plan(&self, flows: &Flows, frame: &[u8]) -> anyhow::Result<()> {
        let plan = flows.plan(frame);
        // SAFETY: a plan is words and integers without padding.
        let bytes =
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&plan).cast::<u8>(), size_of::<Plan>()) };
        bpf::update(self.map("PLAN")?, &0u32.to_ne_bytes(), bytes).context("the plan cannot be written")?;
        self.set_counter("TURN")
    }

    fn set_counter(&self, name: &str) -> anyhow::Result<()> {
        let zeros = vec![0u8; 8 * cpus()?];
        bpf::update(self.map(name)?, &0u32.to_ne_bytes(), &zeros)
            .with_context(|| format!("{name} cannot be set to zero"))
    }

    /// Packets that sinks got so far.
    pub(crate) fn arrived(&self) -> anyhow::Result<u64> {
        self.counter("ARRIVED")
    }

    /// How long the removals of the wrapper took that notes it, all together.
    pub(crate) fn removal_ns(&self) -> anyhow::Result<u64> {
        self.counter("REMOVAL_NS")
    }

    fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let mut values = vec![0u8; 8 * cpus()?];
        bpf::lookup(self.map(name)?, &0u32.to_ne_bytes(), &mut values)
            .with_context(|| format!("{name} cannot be read"))?;
        Ok(values.chunks_exact(8).map(|v| u64::from_ne_bytes(v.try_into().expect("eight bytes"))).sum())
    }

    /// The table of a family gets the tuples of `flows` of this frame, and no others.
    pub(crate) fn fill_table(&self, family: Family, flows: &Flows, frame: &[u8]) -> anyhow::Result<()> {
        let map = self.map(&format!("TABLE{}", number(family)))?;
        bpf::empty(map).context("a table cannot be emptied")?;
        let keys: Vec<u8> = (0..flows.count).flat_map(|i| key(family, flows, frame, i)).collect();
        bpf::fill(map, &keys).context("a table cannot be filled")
    }

    /// The keys of the flow that the forgetting wrappers remove.
    pub(crate) fn forget(&self, keys: &[Vec<u8>; 2]) -> anyhow::Result<()> {
        let map = self.map("FORGET")?;
        for (index, key) in (0u32..).zip(keys) {
            let mut element = [0; size_of::<FlowKey6>()];
            element[..key.len()].copy_from_slice(key);
            bpf::update(map, &index.to_ne_bytes(), &element).context("FORGET cannot be written")?;
        }
        Ok(())
    }

    /// Runs `program`, whose last verdict must be one of `wanted`.
    pub(crate) fn run(program: BorrowedFd<'_>, input: Input<'_>, wanted: &[u32]) -> anyhow::Result<Ran> {
        let ran = bpf::test_run(program, input).context("a program cannot be run")?;
        ensure!(wanted.contains(&ran.verdict), "the program answers {}, not one of {wanted:?}", ran.verdict);
        Ok(ran)
    }
}

/// The tuple of flow `i` as the floor and the bare lookup read it; it is a flow's key, too.
pub(crate) fn key(family: Family, flows: &Flows, frame: &[u8], i: u32) -> Vec<u8> {
    let (port, low) = flows.plan(frame).varied_fields(i);
    let (addresses, ports) = match family {
        Family::V4 => (26..34, 34..38),
        Family::V6 => (22..54, 54..58),
    };
    let (low_at, port_at) = if flows.varied == SOURCE {
        ((addresses.start + addresses.end) / 2 - 2, ports.start)
    } else {
        (addresses.end - 2, ports.start + 2)
    };
    let mut packet = frame[..58].to_vec();
    packet[low_at..low_at + 2].copy_from_slice(&low.to_be_bytes());
    packet[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
    [&packet[addresses], &packet[ports], &6u32.to_ne_bytes()].concat()
}

fn number(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

fn cpus() -> anyhow::Result<usize> {
    aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))
}
