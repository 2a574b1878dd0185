//! The `ip` command of iproute2: what makes links and namespaces here is what a person would type.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs `ip` with these arguments.
pub fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args).output().context("cannot run `ip` (iproute2)")?;
    if !output.status.success() {
        bail!("`ip {}`: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs several commands within one namespace in one process.
pub fn batch(namespace: &str, lines: &[String]) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip` (iproute2)")?;
    let mut input = child.stdin.take().expect("stdin is piped");
    input.write_all((lines.join("\n") + "\n").as_bytes()).context("cannot write to `ip -batch`")?;
    drop(input);
    let output = child.wait_with_output().context("cannot wait for `ip -batch`")?;
    if !output.status.success() {
        bail!("in {namespace}: `ip -batch`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
