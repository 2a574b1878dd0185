//! I1 on a disk that forgets: random work, random ends (the process dies, or the machine loses power at
//! any sync), and after each of them everything that was acknowledged is there. And each sync is needed: with
//! any one of them left out, some seed finds the loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::common::{Store, append, entry, id};
use lockstep_model::ids::NodeId;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::fs::SyncPoint;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::layout::{ClusterId, Identity};
use lockstep_raft_store::log_store::LogStore;
use lockstep_raft_store::types::{LogId, Vote};
use openraft::AsyncRuntime;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use openraft_rt_sim::SimRuntime;

/// A few records each.
const SEGMENT_BYTES: u64 = 250;
const SEEDS: u64 = 150;
const ROUNDS: usize = 6;

/// Small and the same everywhere; proptest would shrink, but a schedule is found again by its seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// What the store was asked, and what it acknowledged.
#[derive(Default)]
struct Oracle {
    /// Term of every acknowledged entry that nothing has replaced.
    entries: BTreeMap<u64, u64>,
    /// Every term an entry was ever written with, by index.
    attempted: BTreeMap<u64, BTreeSet<u64>>,
    vote: Option<Vote>,
    attempted_vote: Option<Vote>,
    purged: Option<u64>,
    attempted_purge: Option<u64>,
    snapshot: Option<u64>,
    identity: Option<Identity>,
}

type Checked<T> = Result<T, String>;

fn require(ok: bool, what: impl FnOnce() -> String) -> Checked<()> {
    if ok { Ok(()) } else { Err(what()) }
}

impl Oracle {
    /// Compares what a start found with what must be there. What it found is a promise from now on: Raft counts it
    /// as durable.
    async fn check(&mut self, store: &mut Store<SimRuntime>) -> Checked<()> {
        let identity = store.dir.identity().map_err(|e| e.to_string())?;
        require(self.identity.is_none() || identity == self.identity, || "the identity is lost".into())?;
        self.identity = identity;

        let vote = store.log.read_vote().await.map_err(|e| e.to_string())?;
        require(vote == self.vote || vote == self.attempted_vote, || {
            format!("vote {vote:?}, acked {:?}", self.vote)
        })?;
        (self.vote, self.attempted_vote) = (vote, vote);

        let state = store.log.get_log_state().await.map_err(|e| e.to_string())?;
        let purged = state.last_purged_log_id.map(|id| id.index);
        require(purged == self.purged || purged == self.attempted_purge, || {
            format!("purged {purged:?}, acked {:?}", self.purged)
        })?;
        (self.purged, self.attempted_purge) = (purged, purged);

        let snapshot = store.machine.get_current_snapshot().await.map_err(|e| e.to_string())?;
        let snapshot = snapshot.and_then(|s| s.meta.last_log_id).map(|id| id.index);
        require(snapshot >= self.snapshot, || format!("snapshot {snapshot:?}, acked {:?}", self.snapshot))?;
        require(snapshot >= purged, || {
            format!("purged up to {purged:?}, but the snapshot is of {snapshot:?}")
        })?;
        self.snapshot = snapshot;

        let found = store.log.try_get_log_entries(..).await.map_err(|e| e.to_string())?;
        let first = purged.map_or(0, |p| p + 1);
        for (index, found) in (first..).zip(&found) {
            require(found.log_id.index == index, || format!("entry {} at {index}", found.log_id))?;
            let term = found.log_id.leader_id.term;
            let known = self.attempted.get(&index).is_some_and(|terms| terms.contains(&term));
            require(known && *found == entry(term, index), || {
                format!("entry {} was never written", found.log_id)
            })?;
        }
        let found: BTreeMap<u64, u64> =
            found.iter().map(|e| (e.log_id.index, e.log_id.leader_id.term)).collect();
        for (index, term) in self.entries.range(first..) {
            require(found.get(index) == Some(term), || {
                format!("acknowledged entry {index} of term {term} is lost")
            })?;
        }
        self.entries = found;
        Ok(())
    }

    fn last(&self) -> Option<u64> {
        self.entries.last_key_value().map(|(index, _)| *index).max(self.purged)
    }

    fn append(&mut self, index: u64, term: u64) {
        self.attempted.entry(index).or_default().insert(term);
    }
}

/// One thing that Raft may ask of its store. Errors are the disk's, injected: the store has stopped then.
async fn work(
    dice: &mut Dice,
    oracle: &mut Oracle,
    store: &mut Store<SimRuntime>,
    term: u64,
) -> std::io::Result<()> {
    let last = oracle.last();
    match dice.roll(9) {
        0..=3 => write(oracle, &mut store.log, last.map_or(0, |l| l + 1), 1 + dice.roll(3), term).await,
        4 => {
            let vote = Vote::new(term, 1 + dice.roll(3));
            oracle.attempted_vote = Some(vote);
            store.log.save_vote(&vote).await?;
            oracle.vote = Some(vote);
            Ok(())
        }
        5 => store.log.save_committed(last.map(|l| id(term, l))).await,
        6 => {
            // What a new leader does to entries that were never committed.
            let Some((&index, _)) = oracle.entries.range(oracle.snapshot.map_or(0, |s| s + 1)..).next_back()
            else {
                return Ok(());
            };
            let after = index.checked_sub(1).map(|before| match oracle.entries.get(&before) {
                Some(term) => id(*term, before),
                None => id(0, before),
            });
            oracle.entries.remove(&index);
            store.log.truncate_after(after).await?;
            write(oracle, &mut store.log, index, 1, term).await
        }
        7 => snapshot_and_purge(dice, oracle, store).await,
        _ => {
            let identity =
                Identity { cluster_name: "edge".into(), cluster_id: ClusterId([7; 16]), node: NodeId(1) };
            store.dir.set_identity(&identity)?;
            oracle.identity = Some(identity);
            Ok(())
        }
    }
}

async fn write(
    oracle: &mut Oracle,
    log: &mut LogStore<SimRuntime>,
    from: u64,
    count: u64,
    term: u64,
) -> std::io::Result<()> {
    let indexes = from..from + count;
    indexes.clone().for_each(|index| oracle.append(index, term));
    append(log, indexes.clone().map(|index| entry(term, index)).collect()).await?;
    oracle.entries.extend(indexes.map(|index| (index, term)));
    Ok(())
}

async fn snapshot_and_purge(
    dice: &mut Dice,
    oracle: &mut Oracle,
    store: &mut Store<SimRuntime>,
) -> std::io::Result<()> {
    let (applied, _) = store.machine.applied_state().await?;
    let from = applied.map_or(0, |id| id.index + 1);
    if dice.one_in(2) {
        let entries = store.log.try_get_log_entries(from..).await?;
        let last = entries.last().map(|e| e.log_id);
        let entries = entries.into_iter().map(|e| Ok((e, None)));
        store.machine.apply(futures::stream::iter(entries)).await?;
        if last.is_some() {
            let built = store.machine.get_snapshot_builder().await.build_snapshot().await?;
            oracle.snapshot = built.meta.last_log_id.map(|id| id.index);
        }
    }
    let snapshot = store.machine.get_current_snapshot().await?;
    let upto: Option<LogId> = snapshot.and_then(|s| s.meta.last_log_id);
    let Some(upto) = upto.filter(|upto| Some(upto.index) > oracle.purged) else { return Ok(()) };
    oracle.attempted_purge = Some(upto.index);
    store.log.purge(upto).await?;
    oracle.purged = Some(upto.index);
    Ok(())
}

/// One life of a store under one seed; what it lost, if anything.
async fn life(seed: u64, ignored: Option<SyncPoint>, seen: &mut BTreeSet<SyncPoint>) -> Checked<()> {
    let mut dice = Dice(seed);
    let fs = SimFs::new();
    if let Some(point) = ignored {
        fs.ignore(point);
    }
    let mut oracle = Oracle::default();
    for round in 0..ROUNDS {
        // A start after an error other than a crash finds a disk that works again.
        fs.heal();
        let opened = Store::open(Arc::new(fs.clone()), Path::new("data"), SEGMENT_BYTES, CommitMode::Inline);
        let mut store = opened.map_err(|e| format!("round {round}: {e}"))?;
        oracle.check(&mut store).await.map_err(|lost| format!("round {round}: {lost}"))?;
        for _ in 0..dice.roll(12) {
            if dice.one_in(5) {
                // The end comes right before one of the syncs of the next piece of work.
                fs.fail(SyncPoint::ALL[dice.roll(SyncPoint::ALL.len() as u64) as usize]);
            }
            if work(&mut dice, &mut oracle, &mut store, round as u64 + 1).await.is_err() {
                break;
            }
        }
        drop(store);
        if !dice.one_in(3) {
            fs.crash(dice.roll(u64::MAX >> 33));
        }
    }
    seen.extend(fs.seen());
    Ok(())
}

fn run(seed: u64, ignored: Option<SyncPoint>, seen: &mut BTreeSet<SyncPoint>) -> Checked<()> {
    SimRuntime::with_seed(seed).block_on(life(seed, ignored, seen))
}

#[test]
fn i1_what_is_acknowledged_survives_every_crash() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS * 6 {
        if let Err(lost) = run(seed, None, &mut seen) {
            panic!("seed {seed}: {lost}");
        }
    }
    assert_eq!(seen, SyncPoint::ALL.into(), "the work reaches every sync there is");
}

#[test]
fn i1_every_sync_is_needed() {
    for point in SyncPoint::ALL {
        let lost = (0..SEEDS * 40).find_map(|seed| run(seed, Some(point), &mut BTreeSet::new()).err());
        assert!(
            lost.is_some(),
            "without {point:?} nothing is ever lost: it is not needed, or the test is too weak"
        );
    }
}
