//! The rest of the daemon's end of the lease thread: inputs go in without waiting, snapshots come out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use arc_swap::ArcSwap;
use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_model::state::State;
use lockstep_ownership::failover::FailoverRecord;
use lockstep_ownership::log::LogEvent;
use lockstep_ownership::message::Tenure;
use lockstep_ownership::status::LocalStatus;
use lockstep_ownership::view::View;
use nix::sys::eventfd::EventFd;
use tokio::sync::oneshot;

use super::snapshot::Snapshot;

/// What the thread is told.
///
/// Unbounded as a queue, bounded in fact: the thread empties it before whatever else it does, and each sender
/// says at most one thing per change of what it watches.
#[derive(Debug)]
pub(super) enum Input {
    Log(LogEvent),
    Applied {
        view: View,
        addresses: BTreeMap<NodeId, SocketAddr>,
    },
    Leadership {
        leads: bool,
        leader: Option<NodeId>,
    },
    Status(LocalStatus),
    Flushed(Tenure),
    OperatorTransfer,
    Surrender,
    /// Answered once no lease is without an end, in the kernel.
    PrepareGrowth(oneshot::Sender<()>),
    GrowthDone,
    /// From the helper threads.
    Prepared(Vec<Tenure>),
    GraceOver(Tenure),
    GraceFailed(Tenure),
    Stop,
}

/// Talks to the lease thread. Cheap to clone; no call waits.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) inputs: Sender<Input>,
    pub(super) wake: Arc<EventFd>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Handle {
    pub(super) fn tell(&self, input: Input) {
        // Both fail only when the thread has ended, and then nobody needs to know any more.
        if self.inputs.send(input).is_ok() {
            let _ended = self.wake.write(1);
        }
    }

    /// The Raft log has changed. To be called in order, from the start of the log, before the change is
    /// acknowledged to anybody.
    pub(crate) fn log(&self, event: LogEvent) {
        self.tell(Input::Log(event));
    }

    /// More of the log is applied.
    pub(crate) fn applied(&self, index: LogIndex, state: &State) {
        let addresses = state.nodes.iter().map(|(id, node)| (*id, node.lease_address)).collect();
        self.tell(Input::Applied { view: View::of(index, state), addresses });
    }

    /// Whether this node leads, and who does as far as it knows.
    pub(crate) fn leadership(&self, leads: bool, leader: Option<NodeId>) {
        self.tell(Input::Leadership { leads, leader });
    }

    /// What this node knows of its own fitness.
    pub(crate) fn status(&self, status: LocalStatus) {
        self.tell(Input::Status(status));
    }

    /// What [`super::Event::Flush`] asked for is done, or cannot be done.
    pub(crate) fn flushed(&self, tenure: Tenure) {
        self.tell(Input::Flushed(tenure));
    }

    /// An operator has placed the leadership.
    pub(crate) fn operator_moved_leader(&self) {
        self.tell(Input::OperatorTransfer);
    }

    /// Gives every lease back although nobody has taken over. Done when the snapshot says `idle`.
    pub(crate) fn surrender(&self) {
        self.tell(Input::Surrender);
    }

    /// Another node is about to come: resolves once the kernel has acknowledged that every lease has an end, and none
    /// without is made until [`Self::growth_done`].
    pub(crate) fn prepare_growth(&self) -> oneshot::Receiver<()> {
        let (sender, bounded) = oneshot::channel();
        self.tell(Input::PrepareGrowth(sender));
        bounded
    }

    /// The other node is part of the state told to [`Self::applied`], or does not come.
    pub(crate) fn growth_done(&self) {
        self.tell(Input::GrowthDone);
    }

    /// Ends the thread. Leases in the kernel run out by themselves.
    pub(crate) fn stop(&self) {
        self.tell(Input::Stop);
    }

    /// The thread as it last showed itself.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Leases held, as of the last snapshot.
    pub(crate) fn held(&self) -> Vec<Tenure> {
        self.snapshot.load().held.clone()
    }

    /// Counters of datagrams and leases.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        self.snapshot.load().counters.clone()
    }

    /// Counters of this node's decisions while it led.
    pub(crate) fn leader_counters(&self) -> Vec<(String, u64)> {
        self.snapshot.load().leader_counters.clone()
    }

    /// Takeovers by this node, oldest first.
    pub(crate) fn failovers(&self) -> Arc<VecDeque<FailoverRecord>> {
        self.snapshot.load().failovers.clone()
    }
}
