//! Waiting until no program still runs that might have seen what was there before.

use std::io;

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Returns when every program that was running when this was called has ended.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is `synchronize_rcu()` (kernel/sched/membarrier.c), and programs run
/// inside an RCU read section. On one CPU the call returns at once, which is right as well: tc programs run
/// with bottom halves off, so none can be half way through while this thread runs. Kernels with
/// `nohz_full` refuse the call; then so does this.
pub fn wait_grace_period() -> io::Result<()> {
    // SAFETY: no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
