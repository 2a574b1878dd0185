//! Whatever way a run ends, the machine is as it was: links, eBPF objects, pins, rules, sysctls, processes, files.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::Snapshot;
use crate::process;
use crate::wait;

/// How long the kernel may take to free what nobody holds any more: it does so after a grace period.
const SETTLE: Duration = Duration::from_secs(10);
const RUN: Duration = Duration::from_secs(60);
/// A run that is cut short is cut when it has said this: everything is up then.
const UNDER_WAY: &str = "weights changed";

pub(super) fn run() -> anyhow::Result<()> {
    let before = Snapshot::take_settled()?;

    let status = demo(&[])?.finish()?;
    anyhow::ensure!(status.success(), "the demo ended with {status}");
    compare(&before, "success")?;

    let status = demo(&[("LOCKSTEP_LOG__LEVEL", "no=such=level")])?.finish()?;
    anyhow::ensure!(status.code() == Some(1), "a demo that cannot start its nodes ended with {status}");
    compare(&before, "failure")?;

    let mut interrupted = demo(&[])?;
    interrupted.wait_under_way()?;
    interrupted.signal(Signal::SIGINT)?;
    let status = interrupted.finish()?;
    anyhow::ensure!(!status.success(), "an interrupted demo ended with {status}");
    compare(&before, "SIGINT")?;

    let mut killed = demo(&[])?;
    killed.wait_under_way()?;
    killed.signal(Signal::SIGKILL)?;
    killed.finish()?;
    let left = before.differences(&Snapshot::take()?);
    anyhow::ensure!(!left.is_empty(), "a killed demo left nothing: the comparison sees nothing");
    let status = demo(&[])?.finish()?;
    anyhow::ensure!(status.success(), "the demo after a killed one ended with {status}");
    compare(&before, "SIGKILL and another run")
}

fn compare(before: &Snapshot, after_what: &str) -> anyhow::Result<()> {
    let mut differences = Vec::new();
    wait::until("the machine to be as it was", SETTLE, || {
        differences = before.differences(&Snapshot::take()?);
        Ok(differences.is_empty().then_some(()))
    })
    .map_err(|error| {
        anyhow::anyhow!("after {after_what}: {error:#}; differences:\n  {}", differences.join("\n  "))
    })?;
    println!("after {after_what}: as before");
    Ok(())
}

/// A demo in a process of its own.
struct Demo {
    child: Child,
    log: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

fn demo(variables: &[(&str, &str)]) -> anyhow::Result<Demo> {
    // Not among the folders that are compared: it lives as long as the demo does.
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let beside = this.parent().context("a program without a folder")?;
    let folder = tempfile::tempdir_in(beside).context("cannot make a temporary folder")?;
    let log = folder.path().join("demo.log");
    let out = std::fs::File::create(&log).context("cannot write the demo's log")?;
    let err = out.try_clone().context("cannot duplicate a log file")?;
    let mut command = Command::new(&this);
    command
        .args(["demo", "--flows", "40", "--seconds", "8", "--profile", "lan"])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    process::die_with_parent(&mut command);
    let child = command.spawn().context("cannot start the demo")?;
    Ok(Demo { child, log, _folder: folder })
}

impl Demo {
    fn wait_under_way(&mut self) -> anyhow::Result<()> {
        wait::until("the demo to be under way", RUN, || {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = self.child.try_wait().context("cannot wait for the demo")? {
                anyhow::bail!("the demo ended with {status}:\n{text}");
            }
            Ok(text.contains(UNDER_WAY).then_some(()))
        })
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal).context("cannot signal the demo")
    }

    fn finish(mut self) -> anyhow::Result<ExitStatus> {
        let status = wait::until("the demo to end", RUN, || {
            self.child.try_wait().context("cannot wait for the demo")
        })?;
        println!("{}", process::tail(&self.log, 30));
        Ok(status)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // SIGINT, so that it takes down what it made; the error is that it has ended already.
        drop(self.signal(Signal::SIGINT));
        drop(self.child.wait());
    }
}
