//! `lockstep doctor` on a node in service, with what an operator may find there: programs of others at every hook,
//! pins that nobody uses any more. It names each, with what to do, and changes nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::modes::{Checks, intent, with_hooks};
use crate::bpf::stranger::{Place, Stranger};
use crate::cluster::Cluster;
use crate::ip::batch;
use crate::topology::Node;

const NODE: Node = Node::A;
const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster =
        Cluster::start_alone(&intent::manifest(), |file| with_hooks(file, "tc", "xdp-generic"))?;
    check(&mut cluster).map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut checks = Checks::default();
    checks.check("in service", quiet(cluster, &["of the daemon that runs"]))?;
    checks.check("programs of others", strangers(cluster))?;
    checks.check("filters of others", filters(cluster))?;
    checks.check("pins of another build", other_pins(cluster))?;
    checks.check("in service again", quiet(cluster, &["of the daemon that runs"]))?;
    cluster.process(NODE)?.terminate(LIMIT)?;
    checks.check("no daemon", demand(cluster, true, "warn", &["is there without a daemon", "--purge"]))?;
    checks.check("an interface less", released(cluster))?;
    checks.check("an interface gone", gone(cluster))?;
    checks.demand()
}

/// It is content, finds nobody else, and says this.
fn quiet(cluster: &Cluster, words: &[&str]) -> anyhow::Result<()> {
    let (content, report) = cluster.doctor(NODE)?;
    ensure!(content && !report.contains("foreign") && !report.contains("filters ("), "doctor says {report}");
    ensure!(words.iter().all(|word| report.contains(word)), "doctor says {report}");
    Ok(())
}

/// A line of this verdict has all these words.
fn demand(cluster: &Cluster, content: bool, verdict: &str, words: &[&str]) -> anyhow::Result<()> {
    let (was_content, report) = cluster.doctor(NODE)?;
    let fits = |line: &str| line.starts_with(verdict) && words.iter().all(|word| line.contains(word));
    ensure!(report.lines().any(fits), "no {verdict} with {words:?} in:\n{report}");
    ensure!(content == was_content, "content is {was_content}:\n{report}");
    Ok(())
}

fn strangers(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.topology.node(NODE);
    let cases = [
        // Where this node has tc alone, XDP is free for others.
        ("eth0", Place::Xdp, "at XDP: what it drops or redirects never reaches this node's"),
        ("eth0", Place::First, "before this node's: what it drops or redirects never reaches them"),
        ("eth1", Place::Last, "behind this node's: it sees only what is passed on"),
    ];
    for (interface, place, what) in cases {
        let stranger = Stranger::attach(namespace, interface, place)?;
        let id = format!("foreign program {}", stranger.id);
        demand(cluster, true, "warn", &[&format!("interface {interface}:"), &id, what, "bpftool"])?;
    }
    Ok(())
}

fn filters(cluster: &Cluster) -> anyhow::Result<()> {
    let tc = |words: &str| -> anyhow::Result<()> {
        let mut command = Command::new("tc");
        command.args(["-n", cluster.topology.node(NODE).name()]).args(words.split(' '));
        let output = command.output().context("cannot run `tc`")?;
        ensure!(output.status.success(), "tc {words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    tc("qdisc add dev eth1 clsact")?;
    tc("filter add dev eth1 ingress protocol ip u32 match u32 0 0")?;
    let found =
        demand(cluster, true, "warn", &["interface eth1:", "tc ingress filters (u32)", "tc filter show"]);
    tc("qdisc delete dev eth1 clsact")?;
    found
}

fn other_pins(cluster: &Cluster) -> anyhow::Result<()> {
    let other = cluster.pin_dir(NODE).join("v999");
    fs::create_dir_all(other.join("links")).context("cannot make a folder of pins")?;
    let words = ["v999 is another build's, attached nowhere", "rm -r"];
    let found = demand(cluster, true, "warn", &words);
    fs::remove_dir_all(&other).context("cannot remove a folder of pins")?;
    found
}

/// The file names one interface less: what is still attached there is told.
fn released(cluster: &Cluster) -> anyhow::Result<()> {
    let one = |file: &str| {
        let interfaces = r#"interfaces = [{ name = "eth0", hook = "tc" }]"#;
        let lines = file.lines().map(|line| if line.starts_with("interfaces") { interfaces } else { line });
        lines.collect::<Vec<_>>().join("\n")
    };
    cluster.configure(NODE, one)?;
    let words = ["links/eth1", "does not name \"eth1\"", "a start detaches it"];
    let found = demand(cluster, true, "warn", &words);
    cluster.configure(NODE, |file| with_hooks(file, "tc", "xdp-generic"))?;
    found
}

fn gone(cluster: &Cluster) -> anyhow::Result<()> {
    batch(cluster.topology.node(NODE).name(), &["link delete eth1".to_owned()])?;
    demand(cluster, false, "warn", &["links/eth1", "the interface it was on has gone"])?;
    demand(cluster, false, "FAIL", &["interface eth1: does not exist"])
}
