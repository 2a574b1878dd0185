//! Real-time priority and locked memory for the lease thread: a lease that is renewed late because a page had
//! to be read back or another thread had the CPU is a failover for nothing.

use std::io;

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
    // Without SCHED_FIFO, timers are late by up to the thread's slack, 50 µs by default.
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches nothing else.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
    Granted { priority: priority.is_ok(), memory: memory.is_ok() }
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
