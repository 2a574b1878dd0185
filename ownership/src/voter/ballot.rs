//! What a voter knows about one group.

use std::time::Duration;

use lockstep_model::ids::{Epoch, NodeId};

use crate::identity::Identity;
use crate::membership::LogId;
use crate::time::Instant;

/// A promise: until then, nobody but the holder gets one for the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// The epoch promised.
    pub epoch: Epoch,
    /// To whom.
    pub holder: Identity,
    /// For how long.
    pub until: Instant,
}

/// The newest request that an older promise keeps waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) epoch: Epoch,
    pub(crate) from: Identity,
    pub(crate) nonce: u64,
    pub(crate) membership: LogId,
    /// A promise made late still ends when one made at once would have.
    pub(crate) until: Instant,
}

/// The owner as this voter hears it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hearing {
    pub(crate) epoch: Epoch,
    pub(crate) node: NodeId,
    pub(crate) at: Instant,
    pub(crate) patience: Duration,
    pub(crate) hears: bool,
}

/// One group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ballot {
    /// The highest epoch promised or validly asked for.
    pub(crate) asked: Epoch,
    /// The highest epoch released. Everything up to it is over.
    pub(crate) released: Epoch,
    pub(crate) promise: Option<Promise>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) hearing: Option<Hearing>,
}

impl Ballot {
    /// From when on `who` may be promised the group: a promise to another run binds until it ends, even one
    /// to the same node, whose former run (or whose clone) may still forward.
    pub(crate) fn free_at(&self, who: Identity, started: Instant) -> Instant {
        match self.promise {
            Some(promise) if promise.holder != who => promise.until.max(started),
            _ => started,
        }
    }

    /// Makes or extends a promise. It never ends earlier than one made before to the same holder: the holder
    /// may still count on that.
    pub(crate) fn grant(&mut self, epoch: Epoch, holder: Identity, until: Instant) {
        let kept = self.promise.filter(|p| p.holder == holder).map_or(until, |p| p.until.max(until));
        self.promise = Some(Promise { epoch, holder, until: kept });
        if self.waiting.is_some_and(|w| w.from == holder) {
            self.waiting = None;
        }
    }
}
