//! The dump shows what is on a disk, with the place of each piece, also when it is damaged, and changes nothing.

use std::path::Path;
use std::sync::Arc;

use lockstep_model::ids::NodeId;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::dump::{Item, What, dump};
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::fs::{Fs, SharedFs};
use lockstep_raft_store::layout::{ClusterId, Identity};
use lockstep_raft_store::types::Vote;
use openraft::AsyncRuntime;
use openraft::storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use openraft_rt_sim::SimRuntime;

use crate::common::{Store, append, entry, id};

const SEGMENT_BYTES: u64 = 150;

async fn written(fs: &SimFs) {
    let fs: SharedFs = Arc::new(fs.clone());
    let mut store =
        Store::<SimRuntime>::open(fs, Path::new("data"), SEGMENT_BYTES, CommitMode::Inline).expect("empty");
    let identity = Identity { cluster_name: "edge".into(), cluster_id: ClusterId([3; 16]), node: NodeId(2) };
    store.dir.set_identity(&identity).expect("written");
    store.log.save_vote(&Vote::new(4, 1)).await.expect("written");
    for index in 0..12 {
        append(&mut store.log, vec![entry(4, index)]).await.expect("appended");
    }
    let entries = (0..6).map(|index| Ok((entry(4, index), None)));
    store.machine.apply(futures::stream::iter(entries)).await.expect("applied");
    store.machine.get_snapshot_builder().await.build_snapshot().await.expect("a snapshot");
    store.log.save_committed(Some(id(4, 8))).await.expect("written");
    store.log.truncate_after(Some(id(4, 9))).await.expect("written");
    append(&mut store.log, vec![entry(5, 10)]).await.expect("appended");
}

fn dumped(fs: &SimFs) -> Vec<Item> {
    let fs: SharedFs = Arc::new(fs.clone());
    let mut items = Vec::new();
    dump(&fs, Path::new("data"), &mut |item| items.push(item)).expect("it can be read");
    items
}

/// Every byte of every file belongs to one item.
fn demand_complete(fs: &SimFs, items: &[Item]) {
    let mut at = 0;
    let mut file = None;
    for item in items {
        if file != Some(&item.file) {
            (file, at) = (Some(&item.file), 0);
        }
        assert_eq!(item.offset, at, "{item:?}");
        at += item.bytes;
        let len = fs.read(&Path::new("data").join(&item.file)).expect("a file").len() as u64;
        assert!(at <= len, "{item:?}");
    }
}

#[test]
fn a_dump_shows_every_piece_and_its_place() {
    SimRuntime::with_seed(0).block_on(async {
        let fs = SimFs::new();
        written(&fs).await;
        let items = dumped(&fs);
        demand_complete(&fs, &items);
        let count = |wanted: fn(&What) -> bool| items.iter().filter(|i| wanted(&i.what)).count();
        assert_eq!(count(|w| matches!(w, What::Entry { .. })), 13, "{items:#?}");
        assert!(count(|w| matches!(w, What::Start { .. })) > 2, "several segments");
        assert_eq!(count(|w| matches!(w, What::Damaged { .. } | What::Other)), 0, "{items:#?}");
        let shows = |wanted: &str| {
            let text: Vec<String> = items.iter().map(|i| format!("{i:?}")).collect();
            assert!(text.iter().any(|line| line.contains(wanted)), "{wanted}: not in {text:#?}");
        };
        for wanted in [
            "Identity { cluster: \"edge\", cluster_id: \"03030303030303030303030303030303\", node: 2 }",
            "Vote(Vote { term: 4, node: 1, committed: false })",
            "Truncation { after: Some(Position { term: 4, leader: 1, index: 9 }) }",
            "Committed { upto: Some(Position { term: 4, leader: 1, index: 8 }) }",
            "Snapshot { last: Some(Position { term: 4, leader: 1, index: 5 })",
            "at: Position { term: 5, leader: 1, index: 10 }",
        ] {
            shows(wanted);
        }
    });
}

#[test]
fn a_dump_goes_on_behind_damage_and_says_where_it_is() {
    SimRuntime::with_seed(0).block_on(async {
        let fs = SimFs::new();
        written(&fs).await;
        let whole = dumped(&fs);
        let entries: Vec<&Item> = whole.iter().filter(|i| matches!(i.what, What::Entry { .. })).collect();
        let hit = entries[1];
        let path = Path::new("data").join(&hit.file);
        for byte in 0..hit.bytes {
            fs.flip(&path, (hit.offset + byte) as usize);
            let items = dumped(&fs);
            demand_complete(&fs, &items);
            let damaged: Vec<&Item> =
                items.iter().filter(|i| matches!(i.what, What::Damaged { .. })).collect();
            assert_eq!(damaged.len(), 1, "byte {byte}: {damaged:?}");
            assert_eq!((&damaged[0].file, damaged[0].offset), (&hit.file, hit.offset), "byte {byte}");
            let others = |items: &[Item]| {
                items
                    .iter()
                    .filter(|i| (&i.file, i.offset) != (&hit.file, hit.offset))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(others(&items), others(&whole), "byte {byte}: the rest is shown as before");
            fs.flip(&path, (hit.offset + byte) as usize);
        }
    });
}

#[test]
fn a_dump_names_a_damaged_snapshot() {
    SimRuntime::with_seed(0).block_on(async {
        let fs = SimFs::new();
        written(&fs).await;
        let is_snapshot = |item: &&Item| item.file.starts_with("snapshots");
        let item = dumped(&fs).iter().find(is_snapshot).cloned().expect("a snapshot");
        fs.flip(&Path::new("data").join(&item.file), item.bytes as usize - 1);
        let now = dumped(&fs).iter().find(is_snapshot).cloned().expect("a snapshot");
        assert!(matches!(&now.what, What::Damaged { problem } if problem.contains("checksum")), "{now:?}");
    });
}
