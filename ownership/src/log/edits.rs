//! Changes that are in the log, not applied yet, and may end what a group serves.
//!
//! A change that gives an address to a group raises the epoch of the group that had it (`model::apply`). Whoever
//! gets the address serves it `MAX_LEASE` after it has applied the change. By then a quorum has the change in its
//! log: if that quorum extended the loser's lease until it *applied* the change, the loser could outlast the wait.
//!
//! Only `apply` knows what a change does. Here it is judged by the names and addresses in it, against what is
//! applied, and always on the safe side: what earlier changes, not applied either, may have made of an address or
//! a name holds up every group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lockstep_model::ids::{Epoch, GroupId, LogIndex};

use crate::view::View;

/// What a change of intent says about groups and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// Addresses, and the name of the group that is to have each.
    pub gives: BTreeSet<(IpAddr, String)>,
    /// Names of groups that are to be deleted.
    pub deletes: BTreeSet<String>,
}

/// Those that are not applied yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edits {
    pending: BTreeMap<LogIndex, Edit>,
    // The rest follows from these and the view.
    raised: BTreeMap<GroupId, Epoch>,
    raised_all: Epoch,
    given: BTreeMap<IpAddr, BTreeSet<String>>,
    deleted: BTreeSet<String>,
}

impl Edits {
    pub(crate) fn append(&mut self, index: LogIndex, edit: Edit, view: &View) {
        self.consider(index, &edit, view);
        self.pending.insert(index, edit);
    }

    /// Drops everything from `next` on.
    pub(crate) fn truncate(&mut self, next: LogIndex, view: &View) {
        if !self.pending.split_off(&next).is_empty() {
            self.consider_all(view);
        }
    }

    /// Something is applied.
    pub(crate) fn handle_view(&mut self, view: &View) {
        if !self.pending.is_empty() {
            self.pending.retain(|index, _| *index > view.applied);
            self.consider_all(view);
        }
    }

    fn consider_all(&mut self, view: &View) {
        let pending = std::mem::take(&mut self.pending);
        *self = Self::default();
        for (index, edit) in &pending {
            self.consider(*index, edit, view);
        }
        self.pending = pending;
    }

    fn consider(&mut self, index: LogIndex, edit: &Edit, view: &View) {
        let epoch = Epoch(index.get());
        for (address, name) in &edit.gives {
            let holder = view.holders.get(address);
            let named = holder.and_then(|holder| view.groups.get(holder)).is_some_and(|g| g.name == *name);
            // A group that is deleted and made anew is another one.
            let keeps = named && !self.deleted.contains(name);
            if let Some(holder) = holder.filter(|_| !keeps) {
                self.raised.insert(*holder, epoch);
            }
            let earlier = self.given.entry(*address).or_default();
            if earlier.iter().any(|other| other != name) {
                self.raised_all = epoch;
            }
            if !keeps {
                earlier.insert(name.clone());
            }
        }
        for name in &edit.deletes {
            match view.groups.iter().find(|(_, g)| g.name == *name) {
                Some((group, _)) if self.deleted.insert(name.clone()) => {
                    self.raised.insert(*group, epoch);
                }
                _ => self.raised_all = epoch,
            }
        }
    }

    /// No lease of a lower epoch may be extended: one of these changes may have ended it.
    pub(crate) fn raised(&self, group: GroupId) -> Epoch {
        self.raised.get(&group).copied().unwrap_or_default().max(self.raised_all)
    }
}
