//! Which processor a thread stays on.

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Where packets are made and programs measured.
pub(crate) const FIRST: usize = 0;
/// Where everything else is.
pub(crate) const SECOND: usize = 1;

/// Keeps the calling thread on one processor.
pub(crate) fn stay_on(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("no processor {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot stay on processor {cpu}"))
}
