//! Makes the kernel hold what the cluster agreed on: `desired(state, node)`, then a diff against the maps.
//!
//! Level-triggered: it runs at every change of the state or of a carrier and at least once a second, and ends in the same
//! place from wherever it starts. Invariant: an address that left another group is not served before
//! MAX_LEASE after that was applied here (DESIGN section 7, "an address moves between groups").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockstep_loader::{Answer, Dataplane, HookReport};
use lockstep_model::ids::{GroupId, LogIndex, NodeId, Revision};
use lockstep_model::image::{AddressImage, desired};
use lockstep_model::limits::MAX_LEASE;
use lockstep_model::state::State;
use lockstep_raft_store::state_machine::Published;
use tokio::sync::watch;

use crate::links::Down;

/// How often the kernel is compared even if nothing changed: repairs what another program deleted.
const PERIOD: Duration = Duration::from_secs(1);
/// Slack on top of MAX_LEASE for the difference between two nodes' clocks (1 %) and scheduling.
const MOVE_SLACK: Duration = Duration::from_millis(100);

/// What the last pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Programmed {
    /// The revision that the kernel holds.
    pub(crate) revision: Revision,
    /// Why this node cannot serve a group.
    pub(crate) unfit: BTreeMap<GroupId, String>,
    /// Interfaces that have lost their program.
    pub(crate) detached: Vec<String>,
    /// What the intent asks for beyond what the dataplane can do.
    pub(crate) warnings: Vec<String>,
    /// The last pass failed: nothing is known to be right.
    pub(crate) error: Option<String>,
    /// Passes that failed, since the start.
    pub(crate) failures: u64,
    /// Interfaces that the programs were attached to again, since the start.
    pub(crate) reattached: u64,
    /// Where each group's addresses are answered while its lease holds.
    pub(crate) answers: BTreeMap<GroupId, BTreeSet<Answer>>,
}

/// When this node applied the log index at which an address left its former group.
#[derive(Default)]
struct Moves {
    seen: BTreeMap<LogIndex, Instant>,
}

impl Moves {
    fn settled(&mut self, address: &AddressImage, now: Instant) -> bool {
        let Some(index) = address.after else { return true };
        let since = *self.seen.entry(index).or_insert(now);
        now.duration_since(since) > MAX_LEASE + MOVE_SLACK
    }

    fn keep(&mut self, wanted: &BTreeSet<LogIndex>) {
        self.seen.retain(|index, _| wanted.contains(index));
    }
}

/// Runs until the state's sender is gone.
pub(crate) async fn run(
    node: NodeId,
    mut states: watch::Receiver<Published>,
    dataplane: Arc<Mutex<Dataplane>>,
    mut down: watch::Receiver<Down>,
    publish: watch::Sender<Programmed>,
) {
    let moves = Arc::new(Mutex::new(Moves::default()));
    loop {
        let state = states.borrow_and_update().state.clone();
        let (dataplane, moves) = (dataplane.clone(), moves.clone());
        let before = publish.borrow().clone();
        let pass = tokio::task::spawn_blocking(move || pass(node, &state, &dataplane, &moves, before));
        let programmed = pass.await.expect("a pass does not panic");
        publish.send_if_modified(|old| {
            let changed = *old != programmed;
            *old = programmed;
            changed
        });
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            // An interface that returns waits for its programs.
            Ok(()) = down.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn pass(
    node: NodeId,
    state: &State,
    dataplane: &Mutex<Dataplane>,
    moves: &Mutex<Moves>,
    before: Programmed,
) -> Programmed {
    let image = desired(state, node);
    let now = Instant::now();
    let mut moves = moves.lock().expect("no pass panics while it holds this");
    let indexes = image.groups.iter().flat_map(|g| &g.addresses).filter_map(|a| a.after).collect();
    moves.keep(&indexes);
    let settled: BTreeSet<_> = image
        .groups
        .iter()
        .flat_map(|g| &g.addresses)
        .filter(|address| moves.settled(address, now))
        .map(|address| address.address)
        .collect();
    let mut dataplane = dataplane.lock().expect("no holder of the dataplane panics");
    let before = reattach(&mut dataplane, before);
    let applied = dataplane.apply(&image, |address| settled.contains(&address.address));
    match applied.and_then(|report| Ok((report, dataplane.detached()?))) {
        Ok((report, detached)) => {
            if detached != before.detached {
                tracing::warn!(interfaces = ?detached, "interfaces without the programs: this node reports itself unfit until they are there and attached again");
            }
            if report.warnings != before.warnings {
                for warning in &report.warnings {
                    tracing::warn!(revision = %state.revision, "{warning}");
                }
            }
            for change in &report.changes {
                tracing::info!(revision = %state.revision, "{change}");
            }
            Programmed {
                revision: state.revision,
                unfit: report.unfit.into_iter().collect(),
                detached,
                warnings: report.warnings,
                error: None,
                failures: before.failures,
                reattached: before.reattached,
                answers: report.answers,
            }
        }
        Err(error) => {
            tracing::error!(%error, revision = %state.revision, "the kernel could not be brought to the agreed state; trying again");
            Programmed { error: Some(error.to_string()), failures: before.failures + 1, ..before }
        }
    }
}

/// What went away and returned, or was detached by somebody, gets its programs back.
fn reattach(dataplane: &mut Dataplane, mut before: Programmed) -> Programmed {
    match dataplane.reattach() {
        Ok(reports) => {
            for HookReport { interface, hook, why } in reports {
                tracing::warn!(interface, %hook, why, "attached again");
                before.reattached += 1;
            }
        }
        Err(error) => {
            tracing::error!(%error, "the programs cannot be attached again; trying again");
            before.failures += 1;
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_single_owner_a_moved_address_waits_for_the_longest_lease() {
        let mut moves = Moves::default();
        let address = AddressImage {
            address: [192, 0, 2, 10].into(),
            vip: true,
            floating: false,
            snat: false,
            port_blocks: 0,
            static_host: None,
            after: Some(LogIndex(7)),
        };
        let start = Instant::now();
        assert!(!moves.settled(&address, start));
        assert!(!moves.settled(&address, start + MAX_LEASE));
        assert!(moves.settled(&address, start + MAX_LEASE + MOVE_SLACK + Duration::from_nanos(1)));
        assert!(moves.settled(&AddressImage { after: None, ..address }, start));
    }
}
