//! Real-time priority and locked memory for the lease thread: a lease that is renewed late because a page had
//! to be read back or another thread had the CPU is a failover for nothing.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Above ordinary real-time work, below interrupt threads (50) and the kernel's own (99).
const PRIORITY: libc::c_int = 40;

/// What was granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    /// SCHED_FIFO.
    pub(crate) priority: bool,
    /// Pages stay in memory once they are there.
    pub(crate) memory: bool,
}

/// Asks for both, for the calling thread and its process. What is refused is logged once: leases work
/// without, with more jitter.
pub(crate) fn acquire() -> Granted {
    let (priority, memory) = (fifo(), lock_memory());
    if let Err(error) = &priority {
        tracing::warn!(%error, "no real-time priority for leases (needs CAP_SYS_NICE): they may lapse under load");
    }
    if let Err(error) = &memory {
        tracing::warn!(%error, "memory is not locked (needs CAP_IPC_LOCK): leases may lapse while pages are read back");
    }
    punctual();
    Granted { priority: priority.is_ok(), memory: memory.is_ok() }
}

/// Asks for priority only, for the calling thread. The lease thread logs what is refused.
pub(crate) fn acquire_priority() {
    let _refused = fifo();
    punctual();
}

fn punctual() {
    // Without SCHED_FIFO, timers are late by up to the thread's slack, 50 µs by default.
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches nothing else.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

fn fifo() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: pid 0 is the calling thread; the kernel copies the parameter.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// On fault: only what is in use counts, not every byte of every map and stack that is reserved.
fn lock_memory() -> io::Result<()> {
    // SAFETY: flags only.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Some of the machine's processors.
pub(crate) struct Processors(CpuSet);

impl Processors {
    /// Those that this process may use, in two parts that share none: the first part has most. Nothing, if there is
    /// only one.
    pub(crate) fn in_two_parts() -> io::Result<Option<(Self, Self)>> {
        let mut most = sched_getaffinity(Pid::from_raw(0))?;
        let mut one = CpuSet::new();
        let usable: Vec<usize> = (0..CpuSet::count()).filter(|cpu| most.is_set(*cpu) == Ok(true)).collect();
        let [first, _, ..] = usable[..] else { return Ok(None) };
        one.set(first)?;
        most.unset(first)?;
        Ok(Some((Processors(most), Processors(one))))
    }

    /// Keeps the calling thread to them. Refused only when they are taken from the process meanwhile, and then the
    /// kernel has chosen others.
    pub(crate) fn keep_to(&self) {
        if let Err(error) = sched_setaffinity(Pid::from_raw(0), &self.0) {
            tracing::warn!(%error, "a lease thread cannot keep to its processors: one that stands still may hold leases up");
        }
    }
}
