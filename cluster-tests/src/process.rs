//! Processes of a run: each in its own process group, dead at the latest when the harness is.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::namespace::Handle;
use crate::wait;

/// A running (or ended) process whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, appending its output to `log`. To be called from a thread that lives as long as the
    /// process shall: the parent-death signal is tied to the thread.
    pub fn start(
        name: &str,
        mut command: Command,
        namespace: Option<&Handle>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().context("cannot duplicate a log file")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        if let Some(namespace) = namespace {
            namespace.place(&mut command);
        }
        die_with_parent(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?} for {name}", command.get_program()))?;
        Ok(Process { name: name.to_owned(), child, log: log.to_owned(), ended: None })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> anyhow::Result<bool> {
        Ok(self.exit_status()?.is_none())
    }

    /// How it ended, if it did.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Sends a signal to its whole process group.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match killpg(Pid::from_raw(self.child.id() as i32), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to {}", self.name)),
        }
    }

    /// SIGKILL to the group, and waits for the process itself.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        self.signal(Signal::SIGKILL)?;
        self.ended = Some(self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?);
        Ok(())
    }

    /// SIGTERM, and waits until it ended.
    pub fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let what = format!("{} to end after SIGTERM", self.name);
        wait::until(&what, limit, || self.exit_status())
    }

    /// The end of its output.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// One line on how it ended.
    pub fn describe_end(&mut self) -> String {
        match self.exit_status() {
            Ok(None) => "runs".to_owned(),
            Ok(Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("ended by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            Err(error) => format!("{error:#}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// SIGKILL for the child when the thread that starts it is gone.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// The last lines of a file; empty when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text =
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The niceness of the example's systemd unit: nodes run with it, and so does the harness beside them, so that
/// what else the machine does is not measured as the cluster's silence.
const NICENESS: libc::c_int = -10;

/// Gives this process, and so everything it starts, [`NICENESS`].
pub fn take_priority() -> anyhow::Result<()> {
    // SAFETY: setpriority(2) takes no pointers; 0 means the calling process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot raise the priority: run it as root");
    }
    Ok(())
}
