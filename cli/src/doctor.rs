//! `doctor`: what the daemon knows of its machine before it starts. It is the daemon's to look, with the code it
//! starts with, so this becomes `lockstepd --doctor`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

const DAEMON: &str = "lockstepd";

/// Does not return, except with the reason why the daemon's program could not be run.
pub(crate) fn run(config: &Path) -> Failure {
    let daemon = daemon();
    let error = Command::new(&daemon).arg("--config").arg(config).arg("--doctor").exec();
    Failure::Usage(format!("{}: {error}: `doctor` runs the daemon's program", daemon.display()))
}

/// Beside this program, where both are installed; otherwise wherever it is found.
fn daemon() -> OsString {
    let beside = std::env::current_exe().ok().map(|this| this.with_file_name(DAEMON));
    beside.filter(|path| path.is_file()).map_or_else(|| DAEMON.into(), Into::into)
}
