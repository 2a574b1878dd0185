//! The shipped programs, as the loader attached them: what a benchmark must know of them, and no more. They are
//! found through the interface that they are attached to, and their flow tables through the programs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lockstep_cluster_tests::wait;
use lockstep_loader::Dataplane;

use super::bed::{Bed, OUTER};
use crate::bpf;
use crate::lockstep::{Daemon, Family, Hook};
use crate::processor;

/// Flow tables are called so, with the family's number behind it or without.
const FLOWS: &str = "FLOWS";
/// Counts packets that the program at the hook sent on by itself.
const FAST: &str = "forwarded_fast";
/// Counts packets that took the stages behind it.
const SLOW: &str = "forwarded_slow";
/// Counts flows.
const CREATED: &str = "flow_created";
/// Counts events that found the ring full.
const LOST: &str = "event_lost";
/// How long the ring may take to be drained.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Packets that were forwarded so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded {
    pub(crate) fast: u64,
    pub(crate) slow: u64,
}

/// The programs under test.
pub(crate) struct Subject {
    dataplane: Dataplane,
    daemon: Daemon,
    program: OwnedFd,
    flows: Vec<OwnedFd>,
}

impl Subject {
    /// Opens the dataplane. The calling thread is in the bed's node, and stays there.
    pub(crate) fn open(bed: &Bed, hook: Hook, families: &[Family], max_flows: u32) -> anyhow::Result<Self> {
        let dataplane = bed.setting(hook, families, max_flows).open(&bed.pins)?;
        let daemon = Daemon::start(&dataplane, false, Some(processor::SECOND))?;
        let program = attached(hook, bed.outer_index)?;
        let mut flows = Vec::new();
        for id in bpf::maps_of(program.as_fd()).context("the program's maps cannot be listed")? {
            let map = bpf::map_by_id(id).with_context(|| format!("map {id} cannot be opened"))?;
            let info = bpf::map_info(map.as_fd()).with_context(|| format!("map {id} cannot be looked at"))?;
            let name = bpf::name_of(&info.name);
            if name.strip_prefix(FLOWS).is_some_and(|rest| rest.is_empty() || rest.parse::<u8>().is_ok()) {
                flows.push(map);
            }
        }
        ensure!(!flows.is_empty(), "the program at {} uses no map {FLOWS}*", hook.name());
        Ok(Subject { dataplane, daemon, program, flows })
    }

    /// The one at the hook.
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Deletes every flow.
    pub(crate) fn forget_flows(&self) -> anyhow::Result<()> {
        for map in &self.flows {
            bpf::empty(map.as_fd()).context("the flows cannot be deleted")?;
        }
        Ok(())
    }

    /// Packets that were forwarded so far, by the program at the hook itself and by the stages behind it.
    pub(crate) fn forwarded(&self) -> anyhow::Result<Forwarded> {
        Ok(Forwarded { fast: self.counter(FAST)?, slow: self.counter(SLOW)? })
    }

    /// Flows that were made so far.
    pub(crate) fn created(&self) -> anyhow::Result<u64> {
        self.counter(CREATED)
    }

    /// Events that were lost so far.
    pub(crate) fn lost(&self) -> anyhow::Result<u64> {
        self.counter(LOST)
    }

    fn counter(&self, wanted: &str) -> anyhow::Result<u64> {
        let counters = self.counters()?;
        counters
            .iter()
            .find_map(|(name, count)| (*name == wanted).then_some(*count))
            .with_context(|| format!("the dataplane has no counter {wanted}"))
    }

    pub(crate) fn counters(&self) -> anyhow::Result<Vec<(&'static str, u64)>> {
        self.dataplane.counters().context("the counters cannot be read")
    }

    /// Events taken from the ring so far.
    pub(crate) fn drained(&self) -> u64 {
        self.daemon.drained.load(Ordering::Acquire)
    }

    /// Waits until the ring has been emptied of `events` more than `before`, or of all that were not lost.
    pub(crate) fn wait_drained(&self, before: u64, events: u64, lost_before: u64) -> anyhow::Result<()> {
        wait::until("the events to be drained", DRAIN_LIMIT, || {
            if self.drained() >= before + events {
                return Ok(Some(()));
            }
            let lost = self.lost()? - lost_before;
            Ok((self.drained() + lost >= before + events).then_some(()))
        })
    }

    /// Takes it out of the kernel.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        self.daemon.stop()?;
        self.dataplane.detach_and_unpin().context("the dataplane cannot be removed")
    }
}

/// The program that stands first at the hook.
fn attached(hook: Hook, ifindex: u32) -> anyhow::Result<OwnedFd> {
    let id = match hook {
        Hook::Tc => {
            let programs = bpf::tcx_programs(ifindex).context("tcx programs cannot be listed")?;
            *programs.first().with_context(|| format!("no tcx program is on {OUTER}"))?
        }
        Hook::Xdp => xdp_program()?,
    };
    bpf::program_by_id(id).with_context(|| format!("program {id} cannot be opened"))
}

/// Only netlink tells; `ip` asks it.
fn xdp_program() -> anyhow::Result<u32> {
    let output = Command::new("ip").args(["-j", "link", "show", "dev", OUTER]).output();
    let output = output.context("cannot run `ip` (iproute2)")?;
    let links: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("`ip -j link` printed no JSON")?;
    let Some(id) = links[0]["xdp"]["prog"]["id"].as_u64() else { bail!("no XDP program is on {OUTER}") };
    u32::try_from(id).context("a program's id fits 32 bits")
}
