//! Waiting until no program still runs that might have seen what was there before.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// While it says 1, the kernel ends a grace period by interrupting every CPU, in a tenth of a millisecond, instead of
/// waiting for the next ticks, which takes ten (Documentation/admin-guide/kernel-parameters: rcupdate.rcu_expedited).
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Returns when every program that was running when this was called has ended.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is `synchronize_rcu()` (kernel/sched/membarrier.c), and programs run
/// inside an RCU read section. On one CPU the call returns at once, which is right as well: tc programs run
/// with bottom halves off, so none can be half way through while this thread runs. Kernels with
/// `nohz_full` refuse the call; then so does this.
///
/// Nobody forwards a group's packets meanwhile, so the machine is asked to be quick. Where it cannot be asked, the wait
/// is as long as the kernel likes, and as right.
pub fn wait_grace_period() -> io::Result<()> {
    let _quick = Expedited::begin(Path::new(EXPEDITED));
    // SAFETY: no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The switch, for as long as this lives. A process killed meanwhile leaves it on, which costs interrupts and breaks
/// nothing.
struct Expedited {
    /// Set only by whoever found it off: what others or an administrator switched on stays on.
    ours: Option<File>,
}

impl Expedited {
    fn begin(switch: &Path) -> Self {
        let off = fs::read_to_string(switch).is_ok_and(|text| text.trim() == "0");
        let file = off.then(|| File::options().write(true).open(switch).ok()).flatten();
        let ours = file.filter(|file| set(file, b"1").is_ok());
        Expedited { ours }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some(file) = &self.ours {
            // What could be written a moment ago can be written now; if not, it stays on.
            drop(set(file, b"0"));
        }
    }
}

fn set(mut file: &File, value: &[u8]) -> io::Result<()> {
    use std::io::Seek;
    file.rewind()?;
    file.write_all(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_on_meanwhile_and_afterwards_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let switch = folder.path().join("rcu_expedited");
        let is = || fs::read_to_string(&switch).unwrap().trim().to_owned();
        for before in ["0", "1"] {
            fs::write(&switch, format!("{before}\n")).unwrap();
            let quick = Expedited::begin(&switch);
            assert_eq!(is(), "1");
            // Another waits at the same time, and ends first.
            drop(Expedited::begin(&switch));
            assert_eq!(is(), "1");
            drop(quick);
            assert_eq!(is(), before);
        }
        drop(Expedited::begin(&folder.path().join("missing")));
    }
}
