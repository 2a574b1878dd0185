//! Sees to it that the addresses of the groups this node owns have source ports enough: looks at what the
//! sweeper counted, and proposes port blocks to the cluster. Decisions are [`watch::PortWatch`]'s.
//!
//! A pass over a large table takes most of a minute, in which an address can use up what it has; so flows that
//! the programs refuse for want of a port are looked at every second.

mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_loader::PortUsage;
use lockstep_model::command::Command;
use lockstep_model::ids::{Epoch, GroupId};
use lockstep_model::state::{Applied, State};
use tokio::sync::mpsc;

use self::watch::{Decision, Observation, PortWatch};
use crate::parts::Parts;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A proposal that is not answered by then failed, as far as is known. Repeating it does no harm.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How the programs count flows they refused for want of a port.
const EXHAUSTED: &str = "ports_exhausted";

/// What has been proposed, counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    allocations: AtomicU64,
    releases: AtomicU64,
    failures: AtomicU64,
    alarms: AtomicU64,
}

impl Counts {
    /// Counters by name.
    pub(crate) fn read(&self) -> Vec<(String, u64)> {
        [
            ("allocations", &self.allocations),
            ("releases", &self.releases),
            ("failed_proposals", &self.failures),
            ("alarms", &self.alarms),
        ]
        .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed)))
        .into()
    }

    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs for as long as the node does; on a witness it has nothing to do.
pub(crate) async fn run(parts: Arc<Parts>) {
    let Some(dataplane) = &parts.dataplane else { return };
    let mut watch = PortWatch::default();
    let mut last_pass = dataplane.flows.port_usage();
    let mut exhausted = dataplane.packet_counter(EXHAUSTED);
    let (answer, mut answers) = mpsc::unbounded_channel();
    let mut looks = tokio::time::interval(PERIOD);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            Some((address, succeeded)) = answers.recv() => {
                watch.answered(Instant::now(), address, succeeded);
                continue;
            }
        }
        let pass = dataplane.flows.port_usage();
        let now_exhausted = dataplane.packet_counter(EXHAUSTED);
        let refused = now_exhausted > exhausted;
        exhausted = now_exhausted;
        if Arc::ptr_eq(&pass, &last_pass) && !refused {
            continue;
        }
        let owned = parts.lease().map(|lease| lease.held()).unwrap_or_default();
        let owned = owned.into_iter().map(|tenure| (tenure.group, tenure.epoch)).collect();
        let seen = observations(&parts.raft.stale(), &owned, &pass);
        last_pass = pass;
        for decision in watch.observe(Instant::now(), &seen, refused) {
            match decision {
                Decision::Propose(address, command) => {
                    let (parts, answer) = (parts.clone(), answer.clone());
                    tokio::spawn(async move {
                        let succeeded = propose(&parts, address, command).await;
                        // The watcher ends with the process.
                        let _ended = answer.send((address, succeeded));
                    });
                }
                Decision::Alarm { address, used, total } => {
                    Counts::add(&dataplane.port_counts.alarms);
                    tracing::warn!(%address, used, total, "more than four fifths of all source ports of the address are in use: give its services or rules another address");
                }
                Decision::AlarmOver { address, used, total } => {
                    tracing::info!(%address, used, total, "the address has source ports enough again");
                }
            }
        }
    }
}

/// What the last pass means for the addresses that the owned groups' flows leave with. Of an address that it knows
/// nothing of, no block counts as empty.
fn observations(state: &State, owned: &BTreeMap<GroupId, Epoch>, pass: &[PortUsage]) -> Vec<Observation> {
    let groups = state.addresses();
    let observed = |address: IpAddr| {
        let epoch = *owned.get(groups.get(&address)?)?;
        let usage = pass.iter().find(|usage| usage.address == address);
        let held = state.blocks(address);
        // A block that the pass did not know as the address's was not looked at.
        let empty = |usage: &PortUsage| -> u64 {
            let empty = usage.blocks.iter().filter(|block| block.allocated && block.ports_used == 0);
            empty.map(|block| 1_u64 << block.block).sum()
        };
        Some(Observation {
            address,
            epoch,
            held,
            busy: !usage.map_or(0, empty),
            used: usage.map_or(0, |usage| usage.ports_used),
        })
    };
    state.snat_sources().into_iter().filter_map(observed).collect()
}

/// Whether the cluster has decided.
async fn propose(parts: &Parts, address: IpAddr, command: Command) -> bool {
    let Some(dataplane) = &parts.dataplane else { return false };
    let counts = &dataplane.port_counts;
    let counted = match &command {
        Command::AllocatePortBlocks { .. } => &counts.allocations,
        _ => &counts.releases,
    };
    let answer = tokio::time::timeout(PROPOSAL_TIMEOUT, parts.raft.write(command)).await;
    let reason = match answer {
        Ok(Ok(Applied::Changed { lines, .. })) => {
            Counts::add(counted);
            tracing::info!("{}", lines.join("; "));
            return true;
        }
        // Somebody else was first, or the intent has moved on: what is true now is seen at the next look.
        Ok(Ok(Applied::Unchanged { .. })) => return true,
        Ok(Ok(Applied::Refused(refusal))) => refusal.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    Counts::add(&counts.failures);
    tracing::warn!(%address, reason, "a change of an address's port blocks was not agreed on (yet)");
    false
}

#[cfg(test)]
mod tests {
    use lockstep_loader::BlockUsage;
    use lockstep_model::command::Change;
    use lockstep_model::ids::LogIndex;
    use lockstep_model::limits::FIRST_PORT_BLOCKS;
    use lockstep_model::manifest;
    use lockstep_model::state::apply;

    use super::*;

    const MANIFEST: &str = "
apiVersion: lockstep/v1
kind: Group
name: edge
spec: {addresses: [10.0.0.1]}
---
apiVersion: lockstep/v1
kind: SnatRule
name: egress
spec:
  group: edge
  match: {source: 10.0.0.0/24}
  action: {type: snat, to: [192.0.2.10, 192.0.2.11]}
";

    fn state() -> (State, GroupId) {
        let mut state = State::default();
        let changes: Vec<Change> = manifest::changes(manifest::parse(MANIFEST).unwrap());
        let applied = apply(&mut state, LogIndex(1), &Command::Change { expected: None, changes });
        assert!(matches!(applied, Applied::Changed { .. }), "{applied:?}");
        let group = state.group("edge").unwrap().0;
        (state, group)
    }

    #[test]
    fn only_addresses_of_owned_groups_are_watched() {
        let (state, group) = state();
        assert_eq!(observations(&state, &BTreeMap::new(), &[]), []);
        let seen = observations(&state, &BTreeMap::from([(group, Epoch(3))]), &[]);
        let addresses: Vec<_> = seen.iter().map(|seen| seen.address.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.10", "192.0.2.11"], "those that flows leave with");
        assert!(seen.iter().all(|seen| seen.epoch == Epoch(3) && seen.held == FIRST_PORT_BLOCKS));
        assert!(seen.iter().all(|seen| seen.busy == u64::MAX && seen.used == 0), "nothing counts as empty");
    }

    #[test]
    fn a_block_that_the_pass_did_not_look_at_is_not_empty() {
        let (mut state, group) = state();
        let address: IpAddr = "192.0.2.10".parse().unwrap();
        apply(&mut state, LogIndex(2), &Command::AllocatePortBlocks { address, count: 1 });
        let block = |block, allocated, ports_used| BlockUsage { block, allocated, ports_used };
        let pass = [PortUsage {
            address,
            blocks: vec![
                block(32, true, 5),
                block(33, true, 0),
                block(34, true, 0),
                block(35, true, 0),
                block(40, false, 1),
            ],
            ports_used: 6,
            ports_total: 4096,
        }];
        let seen = observations(&state, &BTreeMap::from([(group, Epoch(3))]), &pass);
        assert_eq!((seen[0].address, seen[0].used), (address, 6));
        assert_eq!(seen[0].held & !seen[0].busy, 0b1110 << 32, "nor the one in use, nor the new one");
    }
}
