//! What the subscriber makes of an origin's digest.

use std::collections::BTreeMap;

use lockstep_model::flow::{FlowChange, FlowKey, FlowRecord};
use lockstep_model::ids::{Epoch, GroupId};

use super::listing::{Changed, Listing, changed_set};
use super::{Digest, Suspect};
use crate::limits::MAX_SUSPECTS;

/// How a flow differs from the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The standby lacks it.
    Missing,
    /// Only the standby holds it.
    Extra,
    /// Both hold it, with another translation, state or number of changes.
    Changed,
}

/// A flow that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How.
    pub difference: Difference,
    /// The epoch the origin owns its group in.
    pub epoch: Epoch,
    /// What makes it equal: the owner's record, or its removal.
    pub repair: FlowChange,
    /// Both sides' contents; the same again in the next round is the same difference.
    pub(crate) contents: (u64, u64),
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Buckets that differ: at most [`MAX_SUSPECTS`].
    pub suspects: Vec<Suspect>,
    /// How many there were.
    pub differing: u64,
    /// Flows that differ, of the buckets that the digest says in full.
    pub found: Vec<Found>,
}

impl Listing {
    /// Compares what this subscriber holds of `shard` with an origin's digest. `changed`: hashes of what the origin told
    /// between the markers.
    pub(super) fn compare(&self, shard: u8, digest: &Digest, changed: &[u64]) -> Comparison {
        let changed = changed_set(changed);
        let mut comparison = Comparison::default();
        for theirs in &digest.sums {
            let ours = match self.part(theirs.group, shard) {
                Some(part) => part.sums(theirs.bits, &changed),
                None => vec![0; theirs.sums.len()],
            };
            let differing =
                (0..).zip(ours.iter().zip(&theirs.sums)).filter(|(_, (ours, theirs))| ours != theirs);
            for (prefix, _) in differing {
                comparison.differing += 1;
                if comparison.suspects.len() < MAX_SUSPECTS {
                    comparison.suspects.push(Suspect { group: theirs.group, bits: theirs.bits, prefix });
                }
            }
            self.compare_flows(shard, (theirs.group, theirs.epoch), digest, &changed, &mut comparison.found);
        }
        comparison
    }

    fn compare_flows(
        &self,
        shard: u8,
        (group, epoch): (GroupId, Epoch),
        digest: &Digest,
        changed: &Changed,
        found: &mut Vec<Found>,
    ) {
        // Only what both said in full.
        let both = |suspect: &&Suspect| suspect.group == group && self.suspects().contains(suspect);
        let suspects: Vec<Suspect> = digest.suspects.iter().filter(both).copied().collect();
        if suspects.is_empty() {
            return;
        }
        let seed = self.seed();
        let of_suspects =
            |hash: u64| !changed.contains(&hash) && suspects.iter().any(|suspect| suspect.holds(group, hash));
        let unsure: Vec<FlowKey> =
            digest.unsure.iter().filter(|(of, _)| *of == group).map(|(_, key)| *key).collect();
        let mut theirs: BTreeMap<FlowKey, (u64, &FlowRecord)> = BTreeMap::new();
        for record in digest.records.iter().filter(|record| record.group == group) {
            let hash = seed.key(&record.key);
            if of_suspects(hash) && record.key.shard() == shard {
                theirs.insert(record.key, (seed.content(hash, record), record));
            }
        }
        let ours = self.part(group, shard).map_or(&[][..], |part| &part.records[..]);
        for (hash, record) in ours.iter().filter(|(hash, _)| of_suspects(*hash)) {
            let content = seed.content(*hash, record);
            match theirs.remove(&record.key) {
                Some((their, _)) if their == content => {}
                Some((their, record)) => found.push(Found {
                    difference: Difference::Changed,
                    epoch,
                    repair: FlowChange::Upsert(record.clone()),
                    contents: (content, their),
                }),
                None if unsure.contains(&record.key) => {}
                None => found.push(Found {
                    difference: Difference::Extra,
                    epoch,
                    repair: FlowChange::Remove { key: record.key, group, version: record.version },
                    contents: (content, 0),
                }),
            }
        }
        let missing = theirs.into_values().map(|(their, record)| Found {
            difference: Difference::Missing,
            epoch,
            repair: FlowChange::Upsert(record.clone()),
            contents: (0, their),
        });
        found.extend(missing);
    }
}
