//! A build whose maps have another layout, and a file that asks for another size of them: the daemon refuses before it
//! touches anything, says what to do, and what it said works. Meanwhile the kernel goes on, and loses nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::kernel::Others;
use super::{End, end, start};
use crate::cluster::Cluster;
use crate::cluster::files::with_room;
use crate::scenarios::modes::{intent, with_hooks};
use crate::scenarios::traffic::{MEANWHILE, Traffic};
use crate::topology::Node;

const NODE: Node = Node::A;
/// No build had this number.
const OTHER: &str = "v999";

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let others = Others::look()?;
    let mut cluster = Cluster::start_alone(&intent::manifest(), mixed)?;
    check(&mut cluster, &others).map_err(|error| cluster.explain(error))
}

fn mixed(file: &str) -> String {
    with_hooks(file, "xdp-generic", "tc")
}

fn check(cluster: &mut Cluster, others: &Others) -> anyhow::Result<()> {
    let mut traffic = Traffic::start(cluster, false)?;
    let pins = cluster.pin_dir(NODE);
    let ours = schema(&pins)?;
    let tally = traffic.count(|counted| {
        end(cluster, NODE, End::Term)?;
        // As an earlier or a later version left it.
        fs::rename(&ours, pins.join(OTHER)).context("cannot rename the pins")?;
        refused(cluster, others, &[OTHER, "eth0, eth1", "--purge"]).context("another layout")?;
        fs::rename(pins.join(OTHER), &ours).context("cannot rename the pins")?;

        cluster.configure(NODE, |file| with_room(&mixed(file), 32_768))?;
        refused(cluster, others, &["FLOWS4", "entries is 131072, needed is 65536", "--purge"])
            .context("another size")?;
        counted.answered(MEANWHILE)?;
        cluster.configure(NODE, mixed)?;
        start(cluster, NODE)
    })?;
    println!("refused twice, and adopted: {} datagrams sent, {} lost", tally.sent, tally.lost);
    tally.demand_all()?;
    traffic.stop()?;
    as_it_was_told(cluster, others, &pins, &ours)
}

/// The one folder of a schema in a node's pins.
fn schema(pins: &Path) -> anyhow::Result<PathBuf> {
    let found = fs::read_dir(pins).with_context(|| format!("cannot read {}", pins.display()))?;
    let found: Vec<PathBuf> = found
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()
        .context("cannot read the pins")?;
    let [one] = &found[..] else { anyhow::bail!("pins of {found:?}, not of one build") };
    Ok(one.clone())
}

/// The daemon ends with a message that has these words, which `lockstep doctor` finds too, and nothing has changed.
fn refused(cluster: &Cluster, others: &Others, words: &[&str]) -> anyhow::Result<()> {
    let before = (others.ours_at_rest()?, files(&cluster.pin_dir(NODE))?, files(&cluster.data_dir(NODE))?);
    let (content, report) = cluster.doctor(NODE)?;
    let found = |line: &&str| line.starts_with("FAIL") && words.iter().all(|word| line.contains(word));
    ensure!(!content && report.lines().any(|line| found(&line)), "doctor says {report}");
    let (started, text) = cluster.run_daemon(NODE, &[])?;
    ensure!(!started, "the daemon started, and ended well: {text}");
    ensure!(words.iter().all(|word| text.contains(word)), "the daemon says {text}");
    // Doctor and daemon may have asked the kernel what it can do, with maps that are gone with them.
    let after = (others.ours_at_rest()?, files(&cluster.pin_dir(NODE))?, files(&cluster.data_dir(NODE))?);
    ensure!(before == after, "what was {before:?} is {after:?}");
    Ok(())
}

/// Every file below a folder with its length and when it was written.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, (u64, std::time::SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let about = fs::symlink_metadata(&path)?;
        found.insert(path.clone(), (about.len(), about.modified()?));
        if about.is_dir() {
            found.extend(files(&path)?);
        }
    }
    Ok(found)
}

/// What the message says is done: purged, and started anew.
fn as_it_was_told(cluster: &mut Cluster, others: &Others, pins: &Path, ours: &Path) -> anyhow::Result<()> {
    end(cluster, NODE, End::Term)?;
    fs::rename(ours, pins.join(OTHER)).context("cannot rename the pins")?;
    let (purged, text) = cluster.run_daemon(NODE, &["--purge"])?;
    ensure!(purged && !pins.exists(), "purging left {}: {text}", pins.display());
    others.alone_again()?;
    start(cluster, NODE)?;
    let mut traffic = Traffic::start(cluster, false)?;
    traffic.count(|_| Ok(()))?.demand_all()?;
    traffic.stop()
}
