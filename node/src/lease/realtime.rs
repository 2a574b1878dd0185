//! Real-time priority and locked memory for the lease thread: a lease that is renewed late because a page had
//! to be read back or another thread had the CPU is a failover for nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};

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
    schedule(Pid::from_raw(0), libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, PRIORITY)
}

/// 0 is the calling thread.
fn schedule(thread: Pid, policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel copies the parameter.
    let result = unsafe { libc::sched_setscheduler(thread.as_raw(), policy, &raw const param) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ordinary threads that a lease thread's helper waits for now and then: while it does, nobody is served, so they
/// then run before all other ordinary threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lendable(Arc<Mutex<Vec<Pid>>>);

impl Lendable {
    /// The calling thread is one of them. It must not end before the process does.
    pub(crate) fn enrol(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(gettid());
    }

    /// Gives them real-time priority, below the lease threads', until what is returned is dropped. What is refused was logged
    /// by the lease thread, for itself.
    pub(crate) fn lend(&self) -> Lent {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for thread in &threads {
            let _refused = schedule(*thread, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, PRIORITY - 1);
        }
        Lent(threads)
    }
}

#[cfg(test)]
impl Lendable {
    /// How many of them have real-time priority now, and how many there are.
    pub(crate) fn lent(&self) -> (usize, usize) {
        let threads = self.0.lock().unwrap();
        let has = |thread: &&Pid| {
            // SAFETY: takes a number.
            let policy = unsafe { libc::sched_getscheduler(thread.as_raw()) };
            policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO
        };
        (threads.iter().filter(has).count(), threads.len())
    }
}

/// Takes the priority back when it is dropped.
pub(crate) struct Lent(Vec<Pid>);

impl Drop for Lent {
    fn drop(&mut self) {
        // Who may raise a priority by a resource limit alone may not take that flag back, and lower none without it.
        for thread in &self.0 {
            let _refused = schedule(*thread, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0);
        }
    }
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
