//! The agreed state in memory: what the snapshot said, and every committed command since.

use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;
use futures::{Stream, TryStreamExt};
use lockstep_model::ids::{Epoch, LogIndex};
use lockstep_model::state::{State, apply};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{AsyncRuntime, OptionalSend};
use tokio::sync::watch;

use crate::commit::CommitMode;
use crate::error::StoreError;
use crate::fs::SharedFs;
use crate::observer::{LogObserver, Observed, observed_membership};
use crate::snapshot::{Image, SnapshotBytes, SnapshotDir};
use crate::types::{Answer, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types};

/// The state after some entry.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The state.
    pub state: Arc<State>,
    /// The entry applied last; `None` before the first.
    pub applied: Option<LogIndex>,
}

/// The state machine.
pub struct StateMachine<RT> {
    state: Arc<State>,
    applied: Option<LogId>,
    membership: StoredMembership,
    latest: Latest,
    published: watch::Sender<Published>,
    dir: SnapshotDir,
    mode: CommitMode,
    observer: Arc<dyn LogObserver>,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT: AsyncRuntime> StateMachine<RT> {
    /// Starts from the newest snapshot in `dir`, which exists, and tells `observer` what that holds. Every state
    /// from then on is sent to `published`.
    pub fn open(
        fs: SharedFs,
        dir: &Path,
        mode: CommitMode,
        observer: Arc<dyn LogObserver>,
        published: watch::Sender<Published>,
    ) -> Result<Self, StoreError> {
        let dir = SnapshotDir::new(fs, dir);
        let snapshot = dir.newest()?;
        let mut machine = StateMachine {
            state: Arc::default(),
            applied: None,
            membership: StoredMembership::default(),
            latest: Latest::default(),
            published,
            dir,
            mode,
            observer,
            runtime: PhantomData,
        };
        if let Some(image) = snapshot {
            machine.adopt(image);
        }
        Ok(machine)
    }

    fn adopt(&mut self, image: Image) {
        // A store that is opened anew has told what it holds already.
        if image.meta.last_log_id.map(|id| LogIndex(id.index)) > self.published.borrow().applied {
            tell(&*self.observer, &image);
        }
        self.applied = image.meta.last_log_id;
        self.membership = image.meta.last_membership.clone();
        self.latest.set(&image);
        self.state = Arc::new(image.state);
        self.publish();
    }

    fn publish(&self) {
        let applied = self.applied.map(|id| LogIndex(id.index));
        // A store that is opened anew may know less at first than it knew before: nobody sees the state go back.
        self.published.send_if_modified(|published| {
            let is_news = published.applied < applied;
            if is_news {
                *published = Published { state: self.state.clone(), applied };
            }
            is_news
        });
    }
}

/// What a snapshot holds of that which matters before it is committed.
fn tell(observer: &dyn LogObserver, image: &Image) {
    for (id, group) in &image.state.groups {
        if let Some(assignment) = &group.assignment {
            let Epoch(index) = assignment.epoch;
            let (group, epoch, node) = (*id, assignment.epoch, assignment.node);
            observer.appended(index, &Observed::Assignment { group, replaces: Epoch(0), epoch, node });
        }
    }
    if let Some(membership @ Observed::Membership { id, .. }) =
        &observed_membership(&image.meta.last_membership)
    {
        observer.appended(id.index, membership);
    }
}

impl<RT: AsyncRuntime> RaftStateMachine<Types<RT>> for StateMachine<RT> {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder<RT>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types<RT>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some((entry, responder)) = entries.try_next().await? {
            let applied = match &entry.payload {
                Payload::Blank => None,
                Payload::Normal(proposal) => {
                    // Copies the state once per batch, if somebody still reads the one before.
                    Some(apply(Arc::make_mut(&mut self.state), LogIndex(entry.log_id.index), &proposal.0))
                }
                Payload::Membership(m) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), m.clone());
                    None
                }
            };
            self.applied = Some(entry.log_id);
            if let Some(responder) = responder {
                answers.push((responder, Answer(applied)));
            }
        }
        // Before anyone is answered: who was answered may read.
        self.publish();
        for (responder, answer) in answers {
            responder.send(answer);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<RT> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder {
            meta,
            state: self.state.clone(),
            dir: self.dir.clone(),
            latest: self.latest.clone(),
            mode: self.mode,
            runtime: PhantomData,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> Result<(), io::Error> {
        let image = Image::decode(snapshot.0).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if image.meta != *meta {
            let problem = format!("a snapshot of {} that says it is of {}", meta, image.meta);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let dir = self.dir.clone();
        let image = off_thread(self.mode, move || dir.save(&image).map(|()| image)).await?;
        self.adopt(image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.latest.get())
    }
}

/// Writes down the state as it was when the builder was made.
pub struct Builder<RT> {
    meta: SnapshotMeta,
    state: Arc<State>,
    dir: SnapshotDir,
    latest: Latest,
    mode: CommitMode,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT: AsyncRuntime> RaftSnapshotBuilder<Types<RT>> for Builder<RT> {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, state, dir) = (self.meta.clone(), self.state.clone(), self.dir.clone());
        let image = off_thread(self.mode, move || {
            let image = Image::encode(meta, &state);
            dir.save(&image).map(|()| image)
        });
        let image = image.await?;
        self.latest.set(&image);
        Ok(Snapshot { meta: image.meta, snapshot: SnapshotBytes(image.bytes) })
    }
}

/// The newest durable snapshot, shared with the builders.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<Option<(SnapshotMeta, SnapshotBytes)>>>);

impl Latest {
    fn set(&self, image: &Image) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A builder may finish after a newer snapshot was installed.
        if latest.as_ref().is_none_or(|(meta, _)| meta.last_log_id <= image.meta.last_log_id) {
            *latest = Some((image.meta.clone(), SnapshotBytes(image.bytes.clone())));
        }
    }

    fn get(&self) -> Option<Snapshot> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone().map(|(meta, snapshot)| Snapshot { meta, snapshot })
    }
}

/// Runs `work` where it may block: on a thread of its own, or, in simulation, right here.
async fn off_thread<T: Send + 'static>(
    mode: CommitMode,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> io::Result<T> {
    if mode == CommitMode::Inline {
        return Ok(work()?);
    }
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("raft-snapshot".into()).spawn(move || {
        // Nobody waits any more when Raft is shut down.
        drop(sender.send(work()));
    })?;
    let done = receiver.await.map_err(|_| io::Error::other("the snapshot's thread panicked"))?;
    Ok(done?)
}
