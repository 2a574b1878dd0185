//! A successor is waited for before the lease is closed. It asks as soon as it has applied its assignment, which may be a
//! write to its disk later than this node: that long nobody would serve.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId};

use super::{Output, Owner, Phase, Until};
use crate::identity::Identity;
use crate::log::LogView;
use crate::message::Tenure;
use crate::time::Instant;

/// How long a successor is waited for, within what is left of the lease.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);
/// So much of a lease is left for the flush.
pub(super) const FLUSH: Duration = Duration::from_millis(5);

/// Which epochs others have asked this node's voter for. A hint, from whoever it is: it ends a wait, and nothing else.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(BTreeMap<GroupId, Epoch>);

impl Asked {
    /// Groups that are gone are forgotten.
    pub(super) fn retain(&mut self, log: &LogView) {
        self.0.retain(|group, _| log.view().groups.contains_key(group));
    }
}

impl Owner {
    /// Another node asks this one's voter for these.
    pub fn handle_asked(&mut self, now: Instant, from: Identity, tenures: &[Tenure], log: &LogView) {
        if from.node == self.me.node {
            return;
        }
        for Tenure { group, epoch } in tenures {
            if log.view().groups.contains_key(group) {
                let highest = self.asked.0.entry(*group).or_default();
                *highest = (*highest).max(*epoch);
            }
        }
        self.flush_for_successors(now, log);
    }

    /// Flushes what is to be given to somebody who has asked for it, cannot ask here, or has let this node wait too long.
    pub(super) fn flush_for_successors(&mut self, now: Instant, log: &LogView) {
        let votes = log.membership().is_some_and(|m| m.voters().contains(&self.me.node));
        let waited_for = |tenure: &Tenure| {
            let Some(group) = log.view().groups.get(&tenure.group) else { return false };
            let next = group.assignment.filter(|next| next.epoch > tenure.epoch);
            // Of an epoch that is not applied here, only what it is above is known.
            let wanted = next.map_or(Epoch(tenure.epoch.0 + 1), |next| next.epoch);
            let asked = self.asked.0.get(&tenure.group).is_some_and(|asked| *asked >= wanted);
            votes && !asked && next.is_none_or(|next| next.node != self.me.node)
        };
        let mut ready = Vec::new();
        for (tenure, claim) in &self.claims {
            if let (Some(at), Some(Until::At(deadline))) = (claim.flush_at(), claim.until)
                && (now >= at || !waited_for(tenure))
            {
                ready.push((*tenure, deadline));
            }
        }
        for (tenure, deadline) in ready {
            self.claims.get_mut(&tenure).expect("it was found above").phase = Phase::Yielding;
            self.outputs.push_back(Output::Flush { tenure, deadline });
        }
    }
}
