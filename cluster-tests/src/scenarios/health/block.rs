//! A node's probes to some endpoints are lost, and nothing else is.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::namespace::Handle;

/// Rules in a node's namespace; gone when dropped.
#[derive(Debug)]
pub(super) struct Block {
    namespace: Option<Handle>,
}

impl Block {
    pub(super) fn start(namespace: &Handle, endpoints: &[&str], port: u16) -> anyhow::Result<Self> {
        let rules = format!(
            "table inet probes {{\nchain in {{\ntype filter hook input priority 0\n\
             ip saddr {{ {} }} tcp sport {port} drop\n}}\n}}\n",
            endpoints.join(", ")
        );
        nft(namespace, &rules)?;
        Ok(Block { namespace: Some(namespace.clone()) })
    }

    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        self.namespace.take().map_or(Ok(()), |namespace| nft(&namespace, "delete table inet probes\n"))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("rules: {error:#}");
        }
    }
}

fn nft(namespace: &Handle, rules: &str) -> anyhow::Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    namespace.place(&mut command);
    let mut child = command.spawn().context("cannot run `nft` (nftables)")?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(rules.as_bytes()).context("cannot write to `nft`")?;
    drop(stdin);
    let output = child.wait_with_output().context("cannot wait for `nft`")?;
    ensure!(output.status.success(), "`nft`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
