//! nftables rules in a namespace; they go with it.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use lockstep_cluster_tests::namespace::Handle;

/// Loads rules.
pub(crate) fn load(namespace: &Handle, rules: &str) -> anyhow::Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    namespace.place(&mut command);
    let mut child = command.spawn().context("cannot run `nft` (nftables)")?;
    let mut input = child.stdin.take().expect("stdin is piped");
    input.write_all(rules.as_bytes()).context("cannot write to `nft`")?;
    drop(input);
    let output = child.wait_with_output().context("cannot wait for `nft`")?;
    ensure!(output.status.success(), "`nft`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
