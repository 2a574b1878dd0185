//! What this node finds, of every endpoint that it probes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lockstep_model::health::{Failure, FailureKind};
use lockstep_model::ids::{EndpointId, GroupId};
use tokio::sync::Notify;

use super::judge::Reported;
use super::target::Target;
use super::view::{View, window};

/// The views, by endpoint.
#[derive(Default)]
pub(super) struct Table {
    entries: Mutex<BTreeMap<EndpointId, Entry>>,
    cut_off: Mutex<BTreeSet<GroupId>>,
    /// An opinion has changed.
    pub(super) changed: Notify,
}

struct Entry {
    target: Target,
    view: View,
}

impl Table {
    /// What is probed from now on. A view is kept for as long as the endpoint is asked the same.
    pub(super) fn set(&self, targets: &BTreeMap<EndpointId, Target>) {
        let mut entries = self.entries.lock().expect("no holder panics");
        entries.retain(|id, entry| targets.get(id).is_some_and(|target| target.asks_as(&entry.target)));
        for (id, target) in targets {
            let fresh = || Entry { target: target.clone(), view: View::default() };
            entries.entry(*id).or_insert_with(fresh).target = target.clone();
        }
    }

    /// Takes a result in. `Some`: this node's opinion is another now.
    pub(super) fn result(&self, now: Instant, id: EndpointId, result: Result<(), Failure>) -> Option<bool> {
        if result.is_err_and(|failure| failure.kind == FailureKind::Local) {
            return None;
        }
        let mut entries = self.entries.lock().expect("no holder panics");
        let Entry { target, view } = entries.get_mut(&id)?;
        let changed = view.result(now, &target.check, target.verdict.is_some(), result);
        if !changed {
            return None;
        }
        self.changed.notify_one();
        view.opinion
    }

    /// What to report. An endpoint that has not been probed within the window is left out: nothing is known of it.
    pub(super) fn report(&self, now: Instant) -> Vec<Reported> {
        let entries = self.entries.lock().expect("no holder panics");
        let reported = |(id, entry): (&EndpointId, &Entry)| {
            let age = now.duration_since(entry.view.last?);
            let View { opinion, failure, .. } = entry.view;
            (age <= window(&entry.target.check)).then_some(Reported { endpoint: *id, age, opinion, failure })
        };
        entries.iter().filter_map(reported).collect()
    }

    /// The shortest interval of all; `None`: nothing is probed.
    pub(super) fn shortest_interval(&self) -> Option<Duration> {
        let entries = self.entries.lock().expect("no holder panics");
        entries.values().map(|entry| entry.target.check.interval).min()
    }

    pub(super) fn views(&self) -> BTreeMap<EndpointId, View> {
        let entries = self.entries.lock().expect("no holder panics");
        entries.iter().map(|(id, entry)| (*id, entry.view)).collect()
    }

    pub(super) fn cut_off(&self) -> BTreeSet<GroupId> {
        self.cut_off.lock().expect("no holder panics").clone()
    }

    /// Finds out of which groups this node alone does not reach more than half of the endpoints, among those that the
    /// cluster holds to be up. Whether that has changed.
    pub(super) fn look_around(&self, now: Instant) -> Option<BTreeSet<GroupId>> {
        let mut counts: BTreeMap<GroupId, (usize, usize)> = BTreeMap::new();
        let mut entries = self.entries.lock().expect("no holder panics");
        for Entry { target, view } in entries.values_mut() {
            let alone = view.is_alone(now, &target.check, target.is_down());
            if !target.is_down() {
                let (all, unreached) = counts.entry(target.group).or_default();
                *all += 1;
                *unreached += usize::from(alone);
            }
        }
        drop(entries);
        let most = |(all, unreached): (usize, usize)| unreached * 2 > all;
        let found: BTreeSet<GroupId> =
            counts.into_iter().filter(|(_, counts)| most(*counts)).map(|(group, _)| group).collect();
        let mut known = self.cut_off.lock().expect("no holder panics");
        if *known == found {
            return None;
        }
        known.clone_from(&found);
        Some(found)
    }
}

#[cfg(test)]
mod tests;
