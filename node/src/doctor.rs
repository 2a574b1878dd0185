//! `lockstepd --doctor`, which `lockstep doctor` runs: whether this machine is one on which the node can do its
//! job, looked at from outside. It starts nothing and changes nothing, and may run beside the daemon.
//!
//! A finding is `ok`, `warn` (it works, but) or `FAIL` (the daemon would not start, or serve wrongly), and says
//! what to do.

mod clock;
mod files;
mod interfaces;
mod kernel;
mod links;
mod listeners;
mod pins;

use std::fmt;
use std::path::Path;

use crate::config::Config;

/// How something was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    subject: String,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict:<5}{}: {}", self.subject, self.text)
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(Verdict::Ok, subject, text);
    }

    fn warn(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(Verdict::Warn, subject, text);
    }

    fn fail(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(Verdict::Fail, subject, text);
    }

    fn add(&mut self, verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) {
        self.0.push(Finding { verdict, subject: subject.into(), text: text.into() });
    }

    fn failed(&self) -> usize {
        self.count(Verdict::Fail)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// Prints a line per check; fails if any of them did.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let findings = look(path);
    for finding in &findings.0 {
        println!("{finding}");
    }
    let failed = findings.failed();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.0.len());
    println!("{} checks, {} warnings", findings.0.len(), findings.count(Verdict::Warn));
    Ok(())
}

fn look(path: &Path) -> Findings {
    let mut findings = Findings::default();
    let config = match Config::load(path) {
        Ok(config) => {
            findings.ok("configuration", path.display().to_string());
            config
        }
        Err(problem) => {
            findings.fail("configuration", problem.to_string());
            return findings;
        }
    };
    let running = files::is_running(&config.node.data_dir);
    files::check(&config, running, &mut findings);
    listeners::check(&config, running, &mut findings);
    clock::check(&mut findings);
    if let Some(dataplane) = &config.dataplane {
        kernel::check(&dataplane.pin_dir, &mut findings);
        let links = links::read(dataplane.interfaces.iter().map(|interface| interface.name.clone()));
        let pinned = pins::check(dataplane, running, &links, &mut findings);
        interfaces::check(dataplane, &links, &pinned, &mut findings);
    }
    findings
}

/// A sysctl's value.
fn sysctl(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests;
