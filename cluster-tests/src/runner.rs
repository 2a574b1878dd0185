//! Runs the tests, each in a process of its own, and says how it went.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt;
use crate::process;
use crate::scenarios::{ALL, Scenario};

/// How long a test that was told to stop may take to clean up.
const CLEANUP: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Tests that time does not matter to run side by side, so many.
const CALM_AT_ONCE: usize = 2;

/// Prints the tests' names, and what they show if asked to.
pub fn list(long: bool) {
    for Scenario { name, what, .. } in ALL {
        if long {
            println!("{name:<24}{what}");
        } else {
            println!("{name}");
        }
    }
}

/// Runs the tests whose name contains `name`. The last line says how many passed.
pub fn test(name: &str) -> anyhow::Result<ExitCode> {
    let (chosen, skipped): (Vec<&Scenario>, Vec<&Scenario>) =
        ALL.iter().partition(|scenario| scenario.name.contains(name));
    if chosen.is_empty() {
        bail!("no test's name contains {name:?}; see `list`");
    }
    if !skipped.is_empty() {
        println!("skipped, as their names do not contain {name:?}: {}", names(&skipped));
    }
    // Not under a folder that the leak test compares.
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let folder = tempfile::tempdir_in(this.parent().context("a program without a folder")?)
        .context("cannot make a temporary folder")?;
    let (calm, alone): (Vec<&Scenario>, Vec<&Scenario>) = chosen.iter().partition(|scenario| scenario.calm);
    let tally = Tally { this: &this, folder: folder.path(), ended: Mutex::default() };
    for scenario in alone {
        tally.run(scenario)?;
    }
    let left = Mutex::new(calm.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> anyhow::Result<()> {
        while let Some(scenario) = next() {
            tally.run(scenario)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..CALM_AT_ONCE).map(|_| scope.spawn(work)).collect();
        let results = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Vec<_>>().into_iter().collect()
    })?;
    let ended = tally.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed: Vec<&str> = ended.iter().filter(|(_, passed)| !passed).map(|(name, _)| *name).collect();
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{} passed, {} failed, {} skipped", ended.len() - failed.len(), failed.len(), skipped.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of the tests so far.
struct Tally<'a> {
    this: &'a Path,
    folder: &'a Path,
    /// Name, and whether it passed.
    ended: Mutex<Vec<(&'static str, bool)>>,
}

impl Tally<'_> {
    /// Runs a test and says how it went.
    fn run(&self, scenario: &Scenario) -> anyhow::Result<()> {
        interrupt::check()?;
        let log = self.folder.join(format!("{}.log", scenario.name));
        let begin = Instant::now();
        let verdict = run_one(self.this, scenario, &log)?;
        let seconds = begin.elapsed().as_secs_f64();
        // What is printed of one stands together.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push((scenario.name, verdict.is_ok()));
        match verdict {
            Ok(()) => println!("ok      {:<24}{seconds:6.1} s", scenario.name),
            Err(why) => {
                println!("FAILED  {:<24}{seconds:6.1} s  {why}", scenario.name);
                println!("{}", fs::read_to_string(&log).unwrap_or_default());
                println!("again: {} test {}", self.this.display(), scenario.name);
            }
        }
        Ok(())
    }
}

/// Runs one test in this process.
pub fn scenario(name: &str) -> anyhow::Result<ExitCode> {
    let scenario =
        ALL.iter().find(|s| s.name == name).with_context(|| format!("no test is called {name:?}"))?;
    (scenario.run)()?;
    Ok(ExitCode::SUCCESS)
}

fn names(scenarios: &[&Scenario]) -> String {
    scenarios.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
}

/// The inner result is the test's; the outer one says that it could not be run, or that we were interrupted.
fn run_one(this: &Path, scenario: &Scenario, log: &Path) -> anyhow::Result<Result<(), String>> {
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let err = out.try_clone().context("cannot duplicate a log file")?;
    let mut command = Command::new(this);
    command.args(["scenario", scenario.name]).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    process::die_with_parent(&mut command);
    let mut child = command.spawn().context("cannot start a test")?;
    let deadline = Instant::now() + scenario.limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a test")? {
            return Ok(verdict(status));
        }
        if interrupt::requested() {
            stop(&mut child)?;
            interrupt::check()?;
        }
        if Instant::now() >= deadline {
            stop(&mut child)?;
            return Ok(Err(format!("not done after {} s", scenario.limit.as_secs())));
        }
        std::thread::sleep(POLL);
    }
}

fn verdict(status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("{status}")) }
}

/// Lets a test clean up, and if it does not, kills it; the next run cleans up then.
fn stop(child: &mut Child) -> anyhow::Result<()> {
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGTERM).context("cannot stop a test")?;
    let deadline = Instant::now() + CLEANUP;
    while Instant::now() < deadline {
        if child.try_wait().context("cannot wait for a test")?.is_some() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    child.kill().context("cannot kill a test")?;
    child.wait().context("cannot wait for a test")?;
    Ok(())
}
