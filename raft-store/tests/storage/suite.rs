//! openraft's own suite for stores, on the real file system and on the simulated one.

use std::path::Path;
use std::sync::Arc;

use crate::common::Store;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::fs::real::RealFs;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::layout::DataDir;
use lockstep_raft_store::log_store::LogStore;
use lockstep_raft_store::state_machine::StateMachine;
use lockstep_raft_store::types::Types;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{AsyncRuntime, StorageError, TokioRuntime};
use openraft_rt_sim::SimRuntime;
use tempfile::TempDir;

/// Small, so that the suite's few entries fill several segments.
const SEGMENT_BYTES: u64 = 512;

type Built<RT, G> = Result<((G, DataDir), LogStore<RT>, StateMachine<RT>), StorageError<Types<RT>>>;

struct OnDisk;

impl StoreBuilder<Types<TokioRuntime>, LogStore<TokioRuntime>, StateMachine<TokioRuntime>, (TempDir, DataDir)>
    for OnDisk
{
    async fn build(&self) -> Built<TokioRuntime, TempDir> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store =
            Store::open(Arc::new(RealFs), &dir.path().join("data"), SEGMENT_BYTES, CommitMode::Thread)
                .expect("an empty store opens");
        Ok(((dir, store.dir), store.log, store.machine))
    }
}

#[tokio::test]
async fn i1_openraft_suite_on_the_real_file_system() {
    Suite::test_all(OnDisk).await.expect("the suite passes");
}

struct Simulated;

impl StoreBuilder<Types<SimRuntime>, LogStore<SimRuntime>, StateMachine<SimRuntime>, ((), DataDir)>
    for Simulated
{
    async fn build(&self) -> Built<SimRuntime, ()> {
        let store = Store::open(Arc::new(SimFs::new()), Path::new("data"), SEGMENT_BYTES, CommitMode::Inline)
            .expect("an empty store opens");
        Ok((((), store.dir), store.log, store.machine))
    }
}

#[test]
fn i1_openraft_suite_on_the_simulated_disk() {
    SimRuntime::with_seed(1).block_on(async { Suite::test_all(Simulated).await.expect("the suite passes") });
}
