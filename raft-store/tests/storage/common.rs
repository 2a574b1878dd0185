//! What the tests of the store share.
use std::path::Path;
use std::sync::Arc;

use lockstep_model::command::Command;
use lockstep_model::ids::{Epoch, GroupId, NodeId};
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::error::StoreError;
use lockstep_raft_store::fs::SharedFs;
use lockstep_raft_store::layout::DataDir;
use lockstep_raft_store::log_store::{LogStore, Told};
use lockstep_raft_store::observer::{LogObserver, NoObserver};
use lockstep_raft_store::state_machine::StateMachine;
use lockstep_raft_store::types::{Entry, LeaderId, LogId, Payload, Proposal, Types};
use openraft::AsyncRuntime;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tokio::sync::watch;

/// An open data directory with log and state machine.
pub(crate) struct Store<RT> {
    pub(crate) dir: DataDir,
    pub(crate) log: LogStore<RT>,
    pub(crate) machine: StateMachine<RT>,
}

impl<RT: AsyncRuntime> Store<RT> {
    pub(crate) fn open(
        fs: SharedFs,
        root: &Path,
        segment_bytes: u64,
        mode: CommitMode,
    ) -> Result<Self, StoreError> {
        Self::observed(fs, root, segment_bytes, mode, Arc::new(NoObserver))
    }

    pub(crate) fn observed(
        fs: SharedFs,
        root: &Path,
        segment_bytes: u64,
        mode: CommitMode,
        observer: Arc<dyn LogObserver>,
    ) -> Result<Self, StoreError> {
        let dir = DataDir::open(fs.clone(), root)?;
        let machine = StateMachine::open(
            fs.clone(),
            &dir.snapshots(),
            mode,
            observer.clone(),
            watch::Sender::default(),
        )?;
        let log = LogStore::open(fs, &dir.log(), segment_bytes, mode, observer, &Told::default())?;
        Ok(Store { dir, log, machine })
    }
}

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

/// An entry whose content tells its term and index.
pub(crate) fn entry(term: u64, index: u64) -> Entry {
    let command = Command::Assign { group: GroupId(index), replaces: Epoch(term), node: NodeId(1) };
    Entry { log_id: id(term, index), payload: Payload::Normal(Proposal::from(command)) }
}

/// Appends and waits until the store says that the entries are durable.
pub(crate) async fn append<RT: AsyncRuntime>(
    log: &mut LogStore<RT>,
    entries: Vec<Entry>,
) -> std::io::Result<()> {
    let (sender, flushed) = Types::<RT>::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    flushed.await.map_err(|_| std::io::Error::other("the store dropped its acknowledgement"))?
}
