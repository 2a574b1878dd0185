//! Negative control: a stopped owner whose lease is forged into one without end goes on forwarding, and the
//! captures must show it as an overlap with the next owner. If they do not, an overlap of zero means nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::bpf::PinnedArray;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::manifest::{EXAMPLE, Profile};
use crate::topology::Node;
use crate::trial::Trial;
use crate::wait;

const MAP: &str = "LEASES";
const SLOTS: u32 = 256;
/// The kernel's lease: until, epoch, since, group, flags, frozen, fast, and a spare word; each eight bytes.
const VALUE: usize = 64;
const GROUP: std::ops::Range<usize> = 24..32;
const FLAGS: std::ops::Range<usize> = 32..40;
/// A fraction of the lease that is left.
const SETTLED: Duration = Duration::from_millis(20);
/// The flag of a lease without end.
const UNBOUNDED: u64 = 1;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let trial = Trial { after_fault: Some(forge), ..Trial::new(Fault::Pause, Profile::Lan) };
    let report = trial.run(&mut cluster)?;
    print!("{}", report.table());
    anyhow::ensure!(report.owner_after != report.owner_before, "nobody took over: nothing is shown");
    anyhow::ensure!(report.overlap_ns > 0, "a former owner that forwards on is not seen");
    anyhow::ensure!(report.result == "fail", "the report passes a run with two owners");
    Ok(())
}

fn forge(cluster: &mut Cluster, node: Node) -> anyhow::Result<()> {
    let pin = find(&cluster.pin_dir(node))?.with_context(|| format!("no pin is called {MAP}"))?;
    let map = PinnedArray::open(&pin)?;
    anyhow::ensure!(forge_all(&map)? > 0, "no slot of {MAP} is in use");
    // A thread that was writing when its process was stopped may have ended that since.
    wait::pass(SETTLED)?;
    let again = forge_all(&map)?;
    if again > 0 {
        println!("{again} forged leases were written over, and forged again");
    }
    Ok(())
}

/// Takes the end from every lease that has one; how many had.
fn forge_all(map: &PinnedArray) -> anyhow::Result<u32> {
    let mut forged = 0;
    for slot in 0..SLOTS {
        let mut value = [0u8; VALUE];
        map.read(slot, &mut value)?;
        if value[GROUP] != [0; 8] && value[FLAGS] != UNBOUNDED.to_ne_bytes() {
            value[FLAGS].copy_from_slice(&UNBOUNDED.to_ne_bytes());
            map.write(slot, &value)?;
            forged += 1;
        }
    }
    Ok(forged)
}

fn find(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|name| name == MAP) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
