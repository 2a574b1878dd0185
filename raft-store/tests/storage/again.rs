//! A store that is opened anew in the same process: nobody who watches it sees it go back.

use std::path::Path;
use std::sync::Arc;

use lockstep_model::ids::LogIndex;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::layout::DataDir;
use lockstep_raft_store::observer::NoObserver;
use lockstep_raft_store::state_machine::{Published, StateMachine};
use openraft::AsyncRuntime;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft_rt_sim::SimRuntime;
use tokio::sync::watch;

use crate::common::entry;

#[test]
fn i1_a_state_that_was_shown_is_not_replaced_by_an_older_one() {
    SimRuntime::with_seed(0).block_on(async {
        let fs = SimFs::new();
        let dir = DataDir::open(Arc::new(fs.clone()), Path::new("data")).expect("an empty disk");
        let published = watch::Sender::new(Published::default());
        let open = || {
            let (fs, observer) = (Arc::new(fs.clone()), Arc::new(NoObserver));
            let mode = CommitMode::Inline;
            StateMachine::<SimRuntime>::open(fs, &dir.snapshots(), mode, observer, published.clone())
                .expect("readable")
        };
        let entries =
            |range: std::ops::Range<u64>| futures::stream::iter(range.map(|i| Ok((entry(1, i), None))));
        let shown = || published.borrow().applied;

        let mut machine = open();
        machine.apply(entries(0..5)).await.expect("applied");
        machine.get_snapshot_builder().await.build_snapshot().await.expect("a snapshot");
        machine.apply(entries(5..9)).await.expect("applied");
        assert_eq!(shown(), Some(LogIndex(8)));

        let mut again = open();
        assert_eq!(shown(), Some(LogIndex(8)), "it begins with the snapshot of entry 4");
        again.apply(entries(5..7)).await.expect("applied");
        assert_eq!(shown(), Some(LogIndex(8)), "it has applied entry 6");
        again.apply(entries(7..10)).await.expect("applied");
        assert_eq!(shown(), Some(LogIndex(9)));
    });
}
