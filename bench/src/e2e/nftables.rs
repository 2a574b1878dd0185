//! The kernel's own balancer: DNAT to the server, masquerade towards it.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::network::{Addresses, Network};
use super::server::{DATAGRAMS, HTTP, STREAM};
use super::subject::Subject;

/// Loads the rules; they go with their namespace.
pub(crate) fn start(network: &Network) -> anyhow::Result<()> {
    let at = Addresses::of(Subject::Nftables);
    let (vip, server) = (at.vip(), at.server());
    let rules = format!(
        "table ip nat {{\n\
         chain in {{ type nat hook prerouting priority dstnat;\n\
         ip daddr {vip} tcp dport {{ {HTTP}, {STREAM} }} dnat to {server}\n\
         ip daddr {vip} udp dport {DATAGRAMS} dnat to {server}\n}}\n\
         chain out {{ type nat hook postrouting priority srcnat; oifname \"eth1\" masquerade\n}}\n}}\n"
    );
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    network.balancer(Subject::Nftables).place(&mut command);
    let mut child = command.spawn().context("cannot run `nft` (nftables)")?;
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(rules.as_bytes())
        .context("cannot write to `nft`")?;
    let output = child.wait_with_output().context("cannot wait for `nft`")?;
    ensure!(output.status.success(), "`nft`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
