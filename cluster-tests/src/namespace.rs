//! Network namespaces, named as `ip netns` names them, so that a person can look into a cluster that is up.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use nix::sched::{CloneFlags, setns};

use crate::ip::ip;

/// Where `ip netns` keeps the names.
pub const NETNS_DIR: &str = "/run/netns";

/// A namespace that this process made; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    handle: Handle,
}

/// A way into a namespace that outlives nothing: threads hold it to enter.
#[derive(Debug, Clone)]
pub struct Handle {
    name: String,
    file: Arc<File>,
}

impl Namespace {
    /// Makes it, with its loopback up and IPv6 off (this version balances IPv4, and router solicitations and
    /// duplicate address detection would only be noise in the captures).
    pub fn create(name: &str) -> anyhow::Result<Self> {
        ip(&["netns", "add", name])?;
        let path = PathBuf::from(NETNS_DIR).join(name);
        let opened = File::open(&path).with_context(|| format!("cannot open {}", path.display()));
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                remove(name)?;
                return Err(error);
            }
        };
        let namespace = Namespace { handle: Handle { name: name.to_owned(), file: Arc::new(file) } };
        namespace.handle.sysctl(&[
            ("net/ipv6/conf/all/disable_ipv6", "1"),
            ("net/ipv6/conf/default/disable_ipv6", "1"),
        ])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A way in.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl std::ops::Deref for Namespace {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.handle.name) {
            eprintln!("namespace {} could not be removed: {error:#}", self.handle.name);
        }
    }
}

impl Handle {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it, for good: sockets belong to the namespace of the thread that makes them.
    pub fn enter(&self) -> anyhow::Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter namespace {}", self.name))
    }

    /// Runs `work` on a thread inside it and waits for the result.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a named thread inside it, which ends by itself or by what it was given. Of several, or of one with a flag to
    /// stop it, [`crate::workers::Workers`] takes care.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<std::thread::JoinHandle<anyhow::Result<T>>> {
        let handle = self.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                handle.enter()?;
                work()
            })
            .with_context(|| format!("cannot start thread {name}"))
    }

    /// Writes files under /proc/sys as this namespace sees them.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.run(|| {
            for (key, value) in settings {
                std::fs::write(format!("/proc/sys/{key}"), value)
                    .with_context(|| format!("cannot set {key} to {value}"))?;
            }
            Ok(())
        })
        .with_context(|| format!("in namespace {}", self.name))
    }

    /// Makes `command` start inside it. Only the network namespace changes: every node of a run sees the same
    /// bpffs and keeps its pins in its own directory there.
    pub fn place(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || match libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
    }
}

/// Removes a namespace by name; one that is gone is no error.
pub fn remove(name: &str) -> anyhow::Result<()> {
    if !PathBuf::from(NETNS_DIR).join(name).exists() {
        return Ok(());
    }
    ip(&["netns", "delete", name])
}
