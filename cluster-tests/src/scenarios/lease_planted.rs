//! Negative control: a stopped owner whose lease is forged into one without end goes on forwarding, and the
//! captures must show it as an overlap with the next owner. If they do not, an overlap of zero means nothing.

use std::time::Duration;

use crate::bpf::{PinnedMap, find_pin};
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
    let map = PinnedMap::open(&find_pin(&cluster.pin_dir(node), MAP)?)?;
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
fn forge_all(map: &PinnedMap) -> anyhow::Result<u32> {
    let mut forged = 0;
    for slot in 0..SLOTS {
        let mut value = [0u8; VALUE];
        let key = slot.to_ne_bytes();
        anyhow::ensure!(map.read(&key, &mut value)?, "{MAP} has no slot {slot}");
        if value[GROUP] != [0; 8] && value[FLAGS] != UNBOUNDED.to_ne_bytes() {
            value[FLAGS].copy_from_slice(&UNBOUNDED.to_ne_bytes());
            map.write(&key, &value)?;
            forged += 1;
        }
    }
    Ok(forged)
}
