//! The one way in which xtask runs other programs: the command, its exit and, on failure, its output are
//! always reported.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::signals;

/// Lines of a failed command's output that an error repeats; its beginning is rarely what went wrong.
const REPORTED_LINES: usize = 200;

/// How long to wait for one more line once the command has ended: a background process that it left may hold
/// the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// What happens to the lines that a command prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Kept, and repeated only in an error
    Nothing,
    /// Printed as they come
    Everything,
}

/// A program with its arguments and surroundings.
#[derive(Clone)]
pub(crate) struct Tool {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
}

/// How a program ended, with what it printed on both streams.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

impl Tool {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
        }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), Some(value.as_ref().to_owned())));
        self
    }

    pub(crate) fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    pub(crate) fn dir(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Ends it, with status 124, when it takes longer.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        let program = std::mem::replace(&mut self.program, "timeout".into());
        self.arguments.splice(0..0, [limit.as_secs().to_string().into(), program]);
        self
    }

    /// Runs it to its end, whatever the end; an error means that it could not run, or that we were interrupted.
    pub(crate) fn run(&self, show: Show) -> Result<Finished> {
        let (reader, writer) = std::io::pipe().context("no pipe")?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("no pipe")?).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("cannot run `{self}`"))?;
        // The command holds the writing ends of the pipe; while it lives, the reader sees no end.
        drop(command);
        let lines = read_lines(reader, show);
        let status = {
            let _forwarding = signals::forward_to(child.id());
            child.wait().with_context(|| format!("cannot wait for `{self}`"))?
        };
        let mut output = String::new();
        while let Ok(line) = lines.recv_timeout(DRAIN) {
            output.push_str(&line);
        }
        if signals::received().is_some() {
            bail!("interrupted in `{self}`");
        }
        Ok(Finished { status, output })
    }

    /// Runs it and demands success; answers what it printed.
    pub(crate) fn output(&self) -> Result<String> {
        let finished = self.run(Show::Nothing)?;
        if !finished.status.success() {
            bail!("`{self}` failed ({}):\n{}", finished.status, tail(&finished.output));
        }
        Ok(finished.output)
    }

    /// Runs it and demands success; answers what it printed on its standard output alone. For what a program
    /// reads: a warning on the error stream must not get in.
    pub(crate) fn stdout(&self) -> Result<Vec<u8>> {
        let output = self
            .command()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .with_context(|| format!("cannot run `{self}`"))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("`{self}` failed ({}):\n{}", output.status, tail(&errors));
        }
        Ok(output.stdout)
    }

    /// Becomes the program; answers only when that fails.
    pub(crate) fn exec(&self) -> anyhow::Error {
        let mut command = Command::new(&self.program);
        self.prepare(&mut command);
        anyhow::Error::from(command.exec()).context(format!("cannot run `{self}`"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.prepare(&mut command);
        command.process_group(0);
        // SAFETY: prctl and getppid are async-signal-safe, and nothing here allocates.
        unsafe {
            command.pre_exec(|| {
                // When this process is killed, the child is told to stop and can clean up.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.args(&self.arguments);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.program.to_string_lossy())?;
        for argument in &self.arguments {
            write!(formatter, " {}", argument.to_string_lossy())?;
        }
        Ok(())
    }
}

/// The last lines of an output, for an error.
pub(crate) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let start = lines.len().saturating_sub(REPORTED_LINES);
    lines[start..].join("\n")
}

fn read_lines(reader: impl Read + Send + 'static, show: Show) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        // An error reads like the end: the exit status still tells how the command fared.
        while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            if show == Show::Everything {
                print!("{text}");
            }
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_command_exit_and_both_streams() {
        let tool = Tool::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = tool.output().unwrap_err().to_string();
        assert!(error.contains("sh -c echo one"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("one\ntwo"), "{error}");
    }

    #[test]
    fn a_background_process_does_not_hold_us() {
        let finished = Tool::new("sh").args(["-c", "sleep 600 & echo $!"]).run(Show::Nothing).unwrap();
        assert!(finished.status.success());
        let killed = Tool::new("sh").args(["-c", &format!("kill {}", finished.output.trim())]);
        killed.output().unwrap();
    }

    #[test]
    fn a_limit_ends_it() {
        let finished =
            Tool::new("sleep").args(["600"]).within(Duration::from_secs(1)).run(Show::Nothing).unwrap();
        assert_eq!(finished.status.code(), Some(124));
    }

    #[test]
    fn standard_output_alone() {
        let bytes = Tool::new("sh").args(["-c", "echo data; echo warning >&2"]).stdout().unwrap();
        assert_eq!(bytes, b"data\n");
    }
}
