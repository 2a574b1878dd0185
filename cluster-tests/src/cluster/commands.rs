//! Running the programs at a node: the daemon and the command line.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

use super::Cluster;
use crate::process;
use crate::programs;
use crate::topology::Node;

impl Cluster {
    /// The daemon's command line with the node's file, its paths overridden to this run's.
    pub fn daemon(&self, node: Node, args: &[&str]) -> anyhow::Result<Command> {
        let program = self.program.clone().map_or_else(programs::lockstepd, Ok)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config(node)).args(args);
        self.point(node, &mut command);
        Ok(command)
    }

    /// Overrides the paths in the node's file to this run's.
    fn point(&self, node: Node, command: &mut Command) {
        command
            .env("LOCKSTEP_NODE__DATA_DIR", self.data_dir(node))
            .env("LOCKSTEP_CLUSTER__SECRET_FILE", self.keys.secret())
            .env("LOCKSTEP_TLS__CA", self.keys.ca())
            .env("LOCKSTEP_TLS__CERT", self.keys.certificate(node))
            .env("LOCKSTEP_TLS__KEY", self.keys.key(node))
            .env("NO_COLOR", "1");
        if self.alone && node == Node::A {
            command.env("LOCKSTEP_CLUSTER__PEERS", "[]");
        }
        if node.balances() {
            command.env("LOCKSTEP_DATAPLANE__PIN_DIR", self.pin_dir(node));
        }
    }

    /// What `lockstep doctor` prints at a node, and whether it is content.
    pub fn doctor(&self, node: Node) -> anyhow::Result<(bool, String)> {
        let mut command = Command::new(programs::lockstep()?);
        command.arg("doctor").arg("--config").arg(self.config(node));
        self.point(node, &mut command);
        self.finish(node, command)
    }

    /// Runs the daemon's program with these arguments at a node until it ends: whether well, and what it said.
    pub fn run_daemon(&self, node: Node, args: &[&str]) -> anyhow::Result<(bool, String)> {
        let command = self.daemon(node, args)?;
        self.finish(node, command)
    }

    fn finish(&self, node: Node, mut command: Command) -> anyhow::Result<(bool, String)> {
        self.topology.node(node).place(&mut command);
        process::die_with_parent(&mut command);
        let output = command.stdin(Stdio::null()).output().context("cannot run it to its end")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// Runs `lockstep` at a node and gives its standard output; anything but success is an error.
    pub fn lockstep(&self, node: Node, args: &[&str]) -> anyhow::Result<String> {
        let output = self.try_lockstep(node, args, "")?;
        if !output.status.success() {
            bail!(
                "`lockstep {}` at {}: {} {}",
                args.join(" "),
                node.name(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `lockstep` at a node with this standard input.
    pub fn try_lockstep(&self, node: Node, args: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut command = Command::new(programs::lockstep()?);
        command
            .args(args)
            .env_remove("LOCKSTEP_SERVER")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.topology.node(node).place(&mut command);
        process::die_with_parent(&mut command);
        let mut child = command.spawn().context("cannot start `lockstep`")?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        match stdin.write_all(input.as_bytes()) {
            // It need not read what it does not want.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => drop(stdin),
        }
        child.wait_with_output().context("cannot wait for `lockstep`")
    }

    /// Applies a manifest at a node.
    pub fn apply(&self, node: Node, manifest: &str) -> anyhow::Result<()> {
        let output = self.try_lockstep(node, &["apply", "-f", "-"], manifest)?;
        if !output.status.success() {
            bail!("`lockstep apply`: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
