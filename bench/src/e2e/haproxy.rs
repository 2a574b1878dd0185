//! HAProxy as a TCP proxy.

use std::process::Command;

use anyhow::Context;
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::run::Run;

use super::network::{Addresses, Network};
use super::server::{HTTP, STREAM};
use super::subject::Subject;

/// Starts it in its balancer's namespace.
pub(crate) fn start(run: &Run, network: &Network) -> anyhow::Result<Process> {
    let at = Addresses::of(Subject::Haproxy);
    let listen = |name: &str, port: u16| {
        format!("listen {name}\n bind {}:{port}\n server one {}:{port}\n", at.vip(), at.server())
    };
    // A thread for each processor is its default.
    let configuration = format!(
        "global\n maxconn 4096\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n \
         timeout server 30s\n{}{}",
        listen("http", HTTP),
        listen("stream", STREAM)
    );
    let path = run.folder().join("haproxy.cfg");
    std::fs::write(&path, configuration).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new("haproxy");
    // In the foreground.
    command.arg("-db").arg("-f").arg(&path);
    let log = run.folder().join("haproxy.log");
    Process::start("haproxy", command, Some(network.balancer(Subject::Haproxy)), &log)
}
