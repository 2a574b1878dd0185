//! Who takes the lease thread's turns: the thread itself, and a stand-in on another processor.
//!
//! Real-time priority takes a processor from every process, but not from the kernel: while it clears the memory of a large
//! map, copies a large file, or verifies a program, a kernel without preemption lets nothing else run there, for hundreds of
//! milliseconds if it must, and a thread that woke there waits although other processors are free. So the thread keeps to
//! all processors but one, and the stand-in to that one, and looks every few milliseconds whether something waits.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use lockstep_ownership::time::Instant;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::clock;
use super::realtime::{self, Processors};
use super::seal::MAX_DATAGRAM;
use super::thread::LeaseThread;

/// Even with a deadline in the past the thread gives way for so long: a bug must not take a CPU at real-time
/// priority.
const MIN_WAIT: Duration = Duration::from_micros(20);
/// With nothing to do.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// How often the stand-in looks.
const LOOK: Duration = Duration::from_millis(2);
/// What has waited for less is the thread's.
const PATIENCE: Duration = Duration::from_millis(1);
/// Stored when nothing has a deadline, and when the thread has ended.
const NEVER: u64 = u64::MAX;
const ENDED: u64 = u64::MAX - 1;

/// The lease thread's state, and what its turns wait for.
pub(super) struct Turns {
    thread: Mutex<LeaseThread>,
    socket: Arc<UdpSocket>,
    wake: Arc<EventFd>,
    /// When something is due, ns on the lease clock.
    due: AtomicU64,
    /// Turns taken so far.
    taken: AtomicU64,
}

impl Turns {
    pub(super) fn new(thread: LeaseThread, socket: Arc<UdpSocket>, wake: Arc<EventFd>) -> Self {
        Self {
            thread: Mutex::new(thread),
            socket,
            wake,
            due: AtomicU64::new(NEVER),
            taken: AtomicU64::new(0),
        }
    }

    /// The thread, until it is told to stop.
    pub(super) fn run(&self, processors: Option<&Processors>) {
        let granted = realtime::acquire();
        processors.inspect(|some| some.keep_to());
        let Some(mut thread) = self.lock() else { return };
        thread.granted(granted);
        drop(thread);
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let deadline = self.deadline();
            let late = self.wait(deadline);
            let Some(mut thread) = self.lock() else { return };
            thread.woke(late);
            if !self.turn(&mut thread, &mut buffer) {
                return;
            }
        }
    }

    /// The stand-in, for as long as the thread.
    pub(super) fn stand_in(&self, processor: &Processors) {
        realtime::acquire_priority();
        processor.keep_to();
        let mut buffer = vec![0; MAX_DATAGRAM];
        while self.due.load(Ordering::Acquire) != ENDED {
            std::thread::sleep(LOOK);
            let taken = self.taken.load(Ordering::Acquire);
            if !self.is_something_due() {
                continue;
            }
            std::thread::sleep(PATIENCE);
            if self.taken.load(Ordering::Acquire) != taken || !self.is_something_due() {
                continue;
            }
            let mut thread = match self.thread.try_lock() {
                Ok(thread) => thread,
                // The thread is at it.
                Err(TryLockError::WouldBlock) => continue,
                // It panicked, and nobody goes on, see `lock`.
                Err(TryLockError::Poisoned(_)) => return,
            };
            if self.due.load(Ordering::Acquire) == ENDED {
                return;
            }
            // Reading resets it, as in `wait`: what is queued is taken now.
            let _count = self.wake.read();
            thread.stood_in_for();
            if !self.turn(&mut thread, &mut buffer) {
                return;
            }
        }
    }

    /// Whether to go on.
    fn turn(&self, thread: &mut LeaseThread, buffer: &mut [u8]) -> bool {
        let goes_on = thread.turn(buffer);
        let due = if goes_on { thread.next_deadline().map_or(NEVER, Instant::as_nanos) } else { ENDED };
        self.due.store(due, Ordering::Release);
        self.taken.fetch_add(1, Ordering::Release);
        goes_on
    }

    /// Nothing, after a turn in which it panicked: no lease is renewed on half a decision; nor if the stand-in has ended it.
    fn lock(&self) -> Option<MutexGuard<'_, LeaseThread>> {
        let thread = self.thread.lock().ok()?;
        (self.due.load(Ordering::Acquire) != ENDED).then_some(thread)
    }

    fn deadline(&self) -> Option<Instant> {
        let due = self.due.load(Ordering::Acquire);
        (due < ENDED).then(|| Instant::from_nanos(due))
    }

    /// How late it woke for a deadline.
    fn wait(&self, deadline: Option<Instant>) -> Duration {
        let wait = deadline.map_or(MAX_WAIT, |d| d.since(clock::now()).clamp(MIN_WAIT, MAX_WAIT));
        let mut fds = self.fds();
        let ready = ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None);
        if fds[1].any().unwrap_or(false) {
            // Reading resets it; what is queued is taken in any case.
            let _count = self.wake.read();
        }
        match deadline {
            Some(deadline) if ready == Ok(0) => clock::now().since(deadline),
            _ => Duration::ZERO,
        }
    }

    fn is_something_due(&self) -> bool {
        let overdue = self.deadline().is_some_and(|at| clock::now() >= at);
        overdue
            || ppoll(&mut self.fds(), Some(TimeSpec::from_duration(Duration::ZERO)), None)
                .is_ok_and(|n| n > 0)
    }

    fn fds(&self) -> [PollFd<'_>; 2] {
        [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ]
    }
}
