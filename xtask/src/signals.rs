//! Being interrupted. A child runs in a process group of its own, so that it gets a signal exactly once,
//! whether the signal came from the terminal or was sent to this process alone. This process then waits for
//! the child, which cleans up after itself, and exits with 128 + signal.

use std::sync::atomic::{AtomicI32, Ordering};

/// The signal that came, or 0.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
/// The process group of the running child, or 0.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Catches SIGINT, SIGTERM and SIGHUP. Handlers, unlike ignored signals, are not inherited through exec.
pub(crate) fn install() {
    let handler: extern "C" fn(libc::c_int) = forward;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero sigaction is a valid value (empty mask, no flags).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is initialised, and `forward` calls only async-signal-safe functions.
        let result = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "sigaction refuses only signals that do not exist");
    }
}

/// The signal that asked this process to stop, if any did.
pub(crate) fn received() -> Option<u8> {
    u8::try_from(RECEIVED.load(Ordering::SeqCst)).ok().filter(|signal| *signal != 0)
}

/// Signals go to this child's group until the guard is dropped.
pub(crate) fn forward_to(child: u32) -> Forwarding {
    let group = i32::try_from(child).expect("a pid fits an i32");
    CHILD.store(group, Ordering::SeqCst);
    // A signal between the spawn and the store found no child to go to.
    if let Some(signal) = received() {
        kill_group(group, i32::from(signal));
    }
    Forwarding
}

/// Ends the forwarding when dropped.
pub(crate) struct Forwarding;

impl Drop for Forwarding {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
    }
}

extern "C" fn forward(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::SeqCst);
    let group = CHILD.load(Ordering::SeqCst);
    if group != 0 {
        kill_group(group, signal);
    }
}

fn kill_group(group: i32, signal: i32) {
    // SAFETY: kill takes no pointers and is async-signal-safe. A group that is gone gives ESRCH, which is fine.
    unsafe { libc::kill(-group, signal) };
}
