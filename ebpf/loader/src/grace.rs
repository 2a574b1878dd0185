//! Waiting until no program still runs that might have seen what was there before.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Present on kernels that can preempt everything (`CONFIG_PREEMPT_RT`).
const REALTIME_KERNEL: &str = "/sys/kernel/realtime";

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// While it says 1, the kernel ends a grace period by interrupting every CPU, in a tenth of a millisecond, instead of
/// waiting for the next ticks, which takes ten (Documentation/admin-guide/kernel-parameters: rcupdate.rcu_expedited).
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Returns when every program that was running when this was called has ended.
///
/// Programs run with bottom halves off, which on an ordinary kernel is with preemption off, so a thread that gets to run on
/// a processor finds no program half way through there. The calling thread visits each processor in turn. With real-time
/// priority that takes a few hundredths of a millisecond a processor, however busy they are; `synchronize_rcu()` is carried out by a
/// worker that waits its turn among all processes.
///
/// Where programs can be preempted (`PREEMPT_RT`) and where a processor cannot be visited (a container's limits), it is
/// `membarrier(MEMBARRIER_CMD_GLOBAL)`, which is `synchronize_rcu()` (kernel/sched/membarrier.c), as programs run inside an
/// RCU read section. Kernels with `nohz_full` refuse that; then so does this.
pub fn wait_grace_period() -> io::Result<()> {
    if !Path::new(REALTIME_KERNEL).exists() && visit_all().is_ok() {
        return Ok(());
    }
    synchronize()
}

/// The calling thread is on every processor once, and then may be on those that it might be on before.
fn visit_all() -> io::Result<()> {
    let me = Pid::from_raw(0);
    let before = sched_getaffinity(me)?;
    let visited = online()?.into_iter().try_for_each(visit);
    let restored = sched_setaffinity(me, &before);
    visited.and(restored.map_err(io::Error::from))
}

/// Also if it went offline meanwhile, which no program does half way through.
fn visit(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    match sched_setaffinity(Pid::from_raw(0), &only) {
        // It returns on a processor of the set; elsewhere only if that one is gone since.
        Ok(()) if sched_getcpu()? == processor => Ok(()),
        _ if !online()?.contains(&processor) => Ok(()),
        Ok(()) => Err(io::Error::other(format!("processor {processor} was not visited"))),
        Err(error) => Err(error.into()),
    }
}

/// Processors that programs run on.
fn online() -> io::Result<Vec<usize>> {
    let text = fs::read_to_string(ONLINE)?;
    list(text.trim()).ok_or_else(|| io::Error::other(format!("{ONLINE} holds {text:?}")))
}

/// Numbers and ranges of them, as in `0-3,5` (Documentation/admin-guide/cputopology).
fn list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(all)
}

/// Nobody forwards a group's packets meanwhile, so the machine is asked to be quick. Where it cannot be asked, the wait
/// is as long as the kernel likes, and as right.
fn synchronize() -> io::Result<()> {
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
    fn a_list_of_processors_is_read_as_the_kernel_writes_it() {
        assert_eq!(list("0"), Some(vec![0]));
        assert_eq!(list("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(list("0-"), None);
        assert_eq!(list(""), None);
    }

    #[test]
    fn every_processor_is_visited_and_the_thread_may_go_where_it_might_before() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        for processor in online().unwrap() {
            visit(processor).unwrap();
            assert_eq!(sched_getcpu().unwrap(), processor);
        }
        sched_setaffinity(Pid::from_raw(0), &before).unwrap();
        visit_all().unwrap();
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }

    #[test]
    fn a_processor_that_is_not_there_needs_no_visit() {
        let most = online().unwrap().into_iter().max().unwrap();
        visit(most + 1).unwrap();
    }

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
