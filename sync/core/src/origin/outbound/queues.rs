//! The order in which a stream's records and markers leave.

use std::collections::{BTreeSet, VecDeque};

use lockstep_model::ids::GroupId;

use super::store::Slot;
use crate::audit::RoundId;
use crate::message::WalkId;
use crate::time::Time;

/// What takes a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// The newest version of a flow.
    Record(Slot),
    /// A walk begins.
    Begin(GroupId, WalkId),
    /// A walk ends.
    End(GroupId, WalkId),
    /// A round of digests begins.
    AuditBegin(RoundId),
    /// It ends.
    AuditEnd(RoundId),
}

/// Where a dirty flow is. The queues hold tickets; one whose flow is elsewhere by now is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the live queue, by ticket.
    Live(u64),
    /// In the walk queue, by ticket.
    Walk(u64),
    /// Waiting for others of its kind, by ticket. An earlier version is on its way at position `told`; 0: none is.
    Later { ticket: u64, told: u64 },
    /// Waiting to be sent again.
    Retry(Time),
    /// On its way, at this position.
    Sent(u64),
}

impl Place {
    /// Where an earlier version is on its way, while this one waits.
    pub(super) fn told(self) -> Option<u64> {
        if let Place::Later { told, .. } = self { Some(told) } else { None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    live: VecDeque<(u64, Item)>,
    walk: VecDeque<(u64, Item)>,
    /// All wait equally long.
    later: VecDeque<(Time, u64, Slot)>,
    retry: BTreeSet<(Time, Slot)>,
    tickets: u64,
    /// Begin markers in the live queue: while there is one, nothing leaves the walk queue.
    begins: usize,
    /// Live items taken since the last one of a walk.
    live_in_a_row: usize,
}

impl Queues {
    pub(super) fn push_live(&mut self, item: Item) -> Place {
        self.tickets += 1;
        self.begins += usize::from(matches!(item, Item::Begin(..)));
        self.live.push_back((self.tickets, item));
        Place::Live(self.tickets)
    }

    pub(super) fn push_walk(&mut self, item: Item) -> Place {
        self.tickets += 1;
        self.walk.push_back((self.tickets, item));
        Place::Walk(self.tickets)
    }

    pub(super) fn push_later(&mut self, at: Time, slot: Slot, told: u64) -> Place {
        self.tickets += 1;
        self.later.push_back((at, self.tickets, slot));
        Place::Later { ticket: self.tickets, told }
    }

    /// What waited until `now`, and its ticket.
    pub(super) fn pop_later(&mut self, now: Time) -> Option<(u64, Slot)> {
        let (.., ticket, slot) = self.later.pop_front_if(|(at, ..)| *at <= now)?;
        Some((ticket, slot))
    }

    pub(super) fn next_later(&self) -> Option<Time> {
        self.later.front().map(|(at, ..)| *at)
    }

    pub(super) fn push_retry(&mut self, at: Time, slot: Slot) -> Place {
        self.retry.insert((at, slot));
        Place::Retry(at)
    }

    pub(super) fn pop_retry(&mut self, now: Time) -> Option<(Time, Slot)> {
        if self.retry.first().is_some_and(|(at, _)| *at <= now) { self.retry.pop_first() } else { None }
    }

    /// The next item and the place it had. After `live_before_walk` live ones in a row a walk's goes first.
    pub(super) fn pop(&mut self, live_before_walk: usize) -> Option<(Place, Item)> {
        let walk_may = self.begins == 0 && !self.walk.is_empty();
        if walk_may && (self.live.is_empty() || self.live_in_a_row >= live_before_walk) {
            self.live_in_a_row = 0;
            let (ticket, item) = self.walk.pop_front()?;
            return Some((Place::Walk(ticket), item));
        }
        let (ticket, item) = self.live.pop_front()?;
        self.live_in_a_row = if walk_may { self.live_in_a_row + 1 } else { 0 };
        self.begins -= usize::from(matches!(item, Item::Begin(..)));
        Some((Place::Live(ticket), item))
    }

    pub(super) fn last_ticket(&self) -> u64 {
        self.tickets
    }

    pub(super) fn walk_len(&self) -> usize {
        self.walk.len()
    }

    pub(super) fn has_retries(&self) -> bool {
        !self.retry.is_empty()
    }

    pub(super) fn next_retry(&self) -> Option<Time> {
        self.retry.first().map(|(at, _)| *at)
    }
}
