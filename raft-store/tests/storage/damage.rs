//! What a start finds on a disk: torn tails are cut, damage is named, a full disk loses nothing.

use std::path::Path;
use std::sync::Arc;

use crate::common::{Store, append, entry, id};
use lockstep_model::ids::NodeId;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::error::StoreError;
use lockstep_raft_store::fs::Fs;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::layout::{ClusterId, Identity};
use openraft::AsyncRuntime;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use openraft_rt_sim::SimRuntime;

const FIRST: &str = "data/log/0000000000000001.wal";

fn open(fs: &SimFs) -> Result<Store<SimRuntime>, StoreError> {
    Store::open(Arc::new(fs.clone()), Path::new("data"), 1 << 20, CommitMode::Inline)
}

fn simulate<T>(work: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(0).block_on(work)
}

async fn written(fs: &SimFs, entries: u64) -> Vec<usize> {
    let mut store = open(fs).expect("an empty disk");
    let mut ends = vec![fs.read(Path::new(FIRST)).expect("a segment").len()];
    for index in 0..entries {
        append(&mut store.log, vec![entry(1, index)]).await.expect("appended");
        ends.push(fs.read(Path::new(FIRST)).expect("a segment").len());
    }
    ends
}

async fn indexes(store: &mut Store<SimRuntime>) -> Vec<u64> {
    let entries = store.log.try_get_log_entries(..).await.expect("readable");
    entries.iter().map(|e| e.log_id.index).collect()
}

#[test]
fn i1_a_torn_tail_is_cut_wherever_it_is_torn() {
    simulate(async {
        let fs = SimFs::new();
        let ends = written(&fs, 3).await;
        let whole = fs.read(Path::new(FIRST)).expect("a segment");
        for cut in ends[2]..ends[3] {
            let fs = SimFs::new();
            drop(open(&fs).expect("an empty disk"));
            fs.create(Path::new(FIRST)).and_then(|mut f| f.append(&whole[..cut])).expect("a torn segment");
            let mut store = open(&fs).unwrap_or_else(|e| panic!("torn at {cut}: {e}"));
            assert_eq!(indexes(&mut store).await, [0, 1], "torn at {cut}");
            append(&mut store.log, vec![entry(2, 2)]).await.expect("the log goes on");
            drop(store);
            let mut store = open(&fs).expect("a clean log");
            assert_eq!(indexes(&mut store).await, [0, 1, 2]);
            assert_eq!(store.log.get_log_state().await.expect("state").last_log_id, Some(id(2, 2)));
        }
    });
}

#[test]
fn i1_damage_in_the_middle_stops_the_node_and_is_named() {
    simulate(async {
        let fs = SimFs::new();
        let ends = written(&fs, 4).await;
        // Every byte of the second entry's record: length, checksum, payload.
        for offset in ends[1]..ends[2] {
            fs.flip(Path::new(FIRST), offset);
            match open(&fs).err() {
                Some(StoreError::Corrupt { path, offset: at, .. }) => {
                    assert_eq!(
                        (path.as_path(), at as usize),
                        (Path::new(FIRST), ends[1]),
                        "flipped {offset}"
                    );
                }
                other => panic!("flipped {offset}: {other:?}"),
            }
            fs.flip(Path::new(FIRST), offset);
        }
        let mut store = open(&fs).expect("all flips were undone, and nothing was changed meanwhile");
        assert_eq!(indexes(&mut store).await, [0, 1, 2, 3]);
    });
}

#[test]
fn damage_to_the_identity_is_named() {
    let fs = SimFs::new();
    let store = open(&fs).expect("an empty disk");
    let identity = Identity { cluster_name: "edge".into(), cluster_id: ClusterId([3; 16]), node: NodeId(2) };
    store.dir.set_identity(&identity).expect("written");
    assert_eq!(store.dir.identity().expect("readable"), Some(identity));
    let path = Path::new("data/identity");
    for offset in 0..fs.read(path).expect("an identity").len() {
        fs.flip(path, offset);
        let error = store.dir.identity().expect_err("damaged");
        assert!(error.to_string().starts_with("data/identity"), "{error}");
        fs.flip(path, offset);
    }
}

#[test]
fn i1_a_missing_segment_is_named() {
    simulate(async {
        let fs = SimFs::new();
        let small = |fs: &SimFs| {
            Store::<SimRuntime>::open(Arc::new(fs.clone()), Path::new("data"), 100, CommitMode::Inline)
        };
        let mut store = small(&fs).expect("an empty disk");
        for index in 0..10 {
            append(&mut store.log, vec![entry(1, index)]).await.expect("appended");
        }
        drop(store);
        fs.remove(Path::new("data/log/0000000000000002.wal")).expect("a second segment");
        let error = small(&fs).err().expect("a gap").to_string();
        assert!(error.contains("0000000000000002.wal") && error.contains("missing"), "{error}");
    });
}

#[test]
fn i1_a_full_disk_acknowledges_nothing_more_and_loses_nothing() {
    simulate(async {
        for free in 0..120 {
            let fs = SimFs::new();
            let mut store = open(&fs).expect("an empty disk");
            fs.set_free(Some(free));
            let mut acknowledged = Vec::new();
            let mut refused = 0;
            for index in 0..8 {
                match append(&mut store.log, vec![entry(1, index)]).await {
                    Ok(()) => acknowledged.push(index),
                    Err(_) => refused += 1,
                }
                // Space comes back, but the log has stopped: it cannot know what is on the disk.
                if refused == 1 {
                    fs.set_free(None);
                }
            }
            assert_eq!(
                acknowledged,
                (0..acknowledged.len() as u64).collect::<Vec<_>>(),
                "none after the first refusal"
            );
            assert_eq!(refused, 8 - acknowledged.len(), "the disk was full");
            drop(store);
            fs.set_free(None);
            fs.crash(free as u64);
            let mut store = open(&fs).unwrap_or_else(|e| panic!("{free} bytes free: {e}"));
            let found = indexes(&mut store).await;
            assert!(
                found.starts_with(&acknowledged),
                "{free} bytes free: {found:?}, acknowledged {acknowledged:?}"
            );
        }
    });
}
