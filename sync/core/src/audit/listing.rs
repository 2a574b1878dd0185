//! What a reading of a kernel's table found, in few bytes a flow.

use std::collections::{BTreeMap, HashSet};

use foldhash::fast::FixedState;
use lockstep_model::flow::{FlowKey, FlowRecord};
use lockstep_model::ids::{Epoch, GroupId};

use super::{BUCKET, Digest, MAX_BITS, Seed, Sums, Suspect, bucket};
use crate::limits::MAX_AUDIT_RECORDS;

/// Hashes of flows that changed while the tables were read.
pub(super) type Changed = HashSet<u64, FixedState>;

/// The flows of one group and shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Of each flow the hash of its key, and of all that both sides agree on: 16 bytes a flow, for as long as a round takes.
    flows: Vec<(u64, u64)>,
    /// Flows of suspects.
    pub(super) records: Vec<(u64, FlowRecord)>,
    pub(super) unsure: Vec<(u64, FlowKey)>,
}

/// Takes a table, flow by flow.
#[derive(Debug, PartialEq, Eq)]
pub struct Lister {
    seed: Seed,
    suspects: Vec<Suspect>,
    parts: BTreeMap<(GroupId, u8), Part>,
}

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing(Lister);

impl Lister {
    /// Nothing yet. `suspects`: buckets to be taken in full.
    pub fn new(seed: Seed, suspects: Vec<Suspect>) -> Self {
        Self { seed, suspects, parts: BTreeMap::new() }
    }

    /// A flow that both sides should hold.
    pub fn meet(&mut self, record: &FlowRecord) {
        let hash = self.seed.key(&record.key);
        let content = self.seed.content(hash, record);
        let part = self.parts.entry((record.group, record.key.shard())).or_default();
        part.flows.push((hash, content));
        if self.suspects.iter().any(|suspect| suspect.holds(record.group, hash)) {
            part.records.push((hash, record.clone()));
        }
    }

    /// A flow that the other side may or may not hold still, or already.
    pub fn meet_unsure(&mut self, group: GroupId, key: FlowKey) {
        let hash = self.seed.key(&key);
        if self.suspects.iter().any(|suspect| suspect.holds(group, hash)) {
            self.parts.entry((group, key.shard())).or_default().unsure.push((hash, key));
        }
    }

    /// That was all.
    pub fn finish(self) -> Listing {
        Listing(self)
    }
}

impl Listing {
    /// What an origin says of `shard`, of the groups it owns.
    pub(super) fn digest(
        &self,
        shard: u8,
        owned: &[(GroupId, Epoch)],
        changed: &[u64],
        mut suspects: Vec<Suspect>,
    ) -> Digest {
        let changed = changed_set(changed);
        let empty = Part::default();
        let mut digest = Digest::default();
        suspects.retain(|suspect| self.0.suspects.contains(suspect));
        for &(group, epoch) in owned {
            let part = self.part(group, shard).unwrap_or(&empty);
            let bits = bits_for(part.flows.len());
            digest.sums.push(Sums { group, epoch, bits, sums: part.sums(bits, &changed) });
        }
        for suspect in suspects {
            let Some(part) = self.part(suspect.group, shard) else {
                digest.suspects.push(suspect);
                continue;
            };
            let held = part.records.iter().filter(|(hash, _)| suspect.holds(suspect.group, *hash));
            let held: Vec<_> = held.filter(|(hash, _)| !changed.contains(hash)).collect();
            // What is too much for one round is for the next.
            if digest.records.len() + held.len() <= MAX_AUDIT_RECORDS {
                digest.suspects.push(suspect);
                digest.records.extend(held.into_iter().map(|(_, record)| record.clone()));
                let unsure = part.unsure.iter().filter(|(hash, _)| suspect.holds(suspect.group, *hash));
                digest.unsure.extend(unsure.map(|(_, key)| (suspect.group, *key)));
            }
        }
        digest
    }

    pub(super) fn part(&self, group: GroupId, shard: u8) -> Option<&Part> {
        self.0.parts.get(&(group, shard))
    }

    pub(super) fn seed(&self) -> Seed {
        self.0.seed
    }

    pub(super) fn suspects(&self) -> &[Suspect] {
        &self.0.suspects
    }
}

impl Part {
    pub(super) fn sums(&self, bits: u8, changed: &Changed) -> Vec<u64> {
        let mut sums = vec![0u64; 1 << bits];
        for (hash, content) in &self.flows {
            if changed.is_empty() || !changed.contains(hash) {
                let sum = &mut sums[bucket(*hash, bits)];
                *sum = sum.wrapping_add(*content);
            }
        }
        sums
    }
}

pub(super) fn changed_set(changed: &[u64]) -> Changed {
    changed.iter().copied().collect()
}

fn bits_for(flows: usize) -> u8 {
    (0..MAX_BITS).find(|bits| flows >> bits <= BUCKET).unwrap_or(MAX_BITS)
}
