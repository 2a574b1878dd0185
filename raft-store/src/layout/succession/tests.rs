use std::sync::Arc;

use lockstep_model::ids::NodeId;
use lockstep_model::state::State;

use super::*;
use crate::backup::Backup;
use crate::fs::SharedFs;
use crate::fs::sim::SimFs;
use crate::layout::ClusterId;
use crate::wal::Recovered;

const SEEDS: u64 = 20;

fn open(fs: &SimFs) -> DataDir {
    DataDir::open(Arc::new(fs.clone()) as SharedFs, Path::new("data")).expect("a data directory")
}

/// A member with a vote in its log.
fn member(fs: &SimFs) -> (DataDir, Identity) {
    let dir = open(fs);
    let identity = Identity { cluster_name: "edge".into(), cluster_id: ClusterId([9; 16]), node: NodeId(2) };
    dir.set_identity(&identity).expect("an identity");
    let (mut wal, _) = Wal::open(dir.fs(), &dir.log(), SEGMENT_BYTES).expect("a log");
    wal.write(&[Record::Vote(vote(3))]).and_then(|()| wal.sync(SyncPoint::Vote)).expect("a vote");
    (dir, identity)
}

fn vote(term: u64) -> pb::VoteState {
    pb::VoteState { leader_id: Some(pb::LeaderId { term, node_id: 2 }), committed: false }
}

fn founder(old: &Identity) -> (Successor, Identity) {
    let (cluster_name, cluster_id) = (old.cluster_name.clone(), old.cluster_id);
    let backup = Backup { cluster_name, cluster_id, log_index: 40, term: 3, state: State::default() };
    backup.found("edge", ([10, 9, 0, 2], 7400).into())
}

fn log(dir: &DataDir) -> Recovered {
    Wal::open(dir.fs(), &dir.log(), SEGMENT_BYTES).expect("a log that can be read").1
}

/// Everything a start finds once `succeed` has run: one life or the other, never a mixture.
fn demand_founder(dir: &DataDir, identity: &Identity) {
    assert_eq!(dir.identity().expect("readable").as_ref(), Some(identity));
    assert_eq!(
        log(dir).vote.and_then(|v| v.leader_id).map(|l| l.term),
        Some(4),
        "the old log's vote is gone"
    );
    let snapshot = SnapshotDir::new(dir.fs(), &dir.snapshots()).newest().expect("readable");
    let members = snapshot.expect("a snapshot").meta.last_membership;
    assert_eq!(members.voter_ids().collect::<Vec<_>>(), [identity.node.get()]);
    assert!(!dir.succeed().expect("readable"), "it is done once");
}

#[test]
fn i1_a_directory_becomes_its_successor_whenever_power_is_lost() {
    for point in SyncPoint::ALL {
        for seed in 0..SEEDS {
            let fs = SimFs::new();
            let (dir, old) = member(&fs);
            let (successor, identity) = founder(&old);
            dir.set_successor(&successor).expect("written down");
            fs.fail(point);
            // Stopped there, if it comes by there.
            let stopped = dir.succeed().is_err();
            fs.heal();
            drop(dir);
            fs.crash(seed);
            let dir = open(&fs);
            let again = dir.succeed().unwrap_or_else(|e| panic!("{point:?}, seed {seed}: {e}"));
            assert!(again || !stopped, "{point:?}, seed {seed}: stopped, and not begun again");
            demand_founder(&dir, &identity);
        }
    }
}

#[test]
fn a_node_that_left_is_empty() {
    let fs = SimFs::new();
    let (dir, _) = member(&fs);
    let installation = dir.installation().expect("drawn");
    dir.set_successor(&Successor::Empty).expect("written down");
    assert!(dir.succeed().expect("carried out"));
    assert_eq!(dir.identity().expect("readable"), None);
    assert!(dir.fs().list(&dir.log()).expect("a directory").is_empty());
    assert_eq!(dir.installation().expect("kept"), installation, "it is the same installation");
}

#[test]
fn without_a_successor_nothing_changes() {
    let fs = SimFs::new();
    let (dir, identity) = member(&fs);
    assert!(!dir.succeed().expect("readable"));
    assert_eq!(dir.identity().expect("readable"), Some(identity));
    assert_eq!(log(&dir).vote, Some(vote(3)));
}
