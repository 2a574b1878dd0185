//! One run of the hook.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Runs it to its end, or kills it, and what it started in its process group, after `limit`. Its output goes where the
/// daemon's goes.
pub(super) fn run(program: &Path, limit: Duration, arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|e| format!("it cannot be started: {e}"))?;
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if Instant::now() >= deadline => return Err(kill(&mut child, limit)),
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return Err(format!("it cannot be waited for: {error}")),
        }
    }
}

fn kill(child: &mut Child, limit: Duration) -> String {
    let killed = i32::try_from(child.id()).map(|pid| killpg(Pid::from_raw(pid), Signal::SIGKILL));
    // It is dead, or cannot be killed, and then this thread would wait in vain.
    if let Ok(Ok(())) = killed
        && let Err(error) = child.wait()
    {
        return format!("killed after {limit:?}, and it cannot be waited for: {error}");
    }
    format!("killed: it took longer than {limit:?}")
}
