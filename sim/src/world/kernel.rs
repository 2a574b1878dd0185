//! What the daemon writes into its kernel: leases, and which group decides about an address.

use std::collections::BTreeMap;

use lockstep_model::ids::NodeId;
use lockstep_model::image::desired;
use lockstep_model::limits::MAX_LEASE;
use lockstep_ownership::message::Tenure;
use lockstep_ownership::owner::Until;
use std::time::Duration;

use super::daemon::CLOCK_STEP;
use super::{Event, World};
use crate::net::now_ns;

/// As in `node/src/reconcile.rs`.
const MOVE_SLACK: Duration = Duration::from_millis(100);
/// The end of a lease of a node that is alone.
const FOREVER_NS: u64 = u64::MAX / 4;

impl World {
    /// Whether the kernel has the lease now.
    pub(super) fn write_lease(&mut self, id: NodeId, tenure: Tenure, until: Until) -> bool {
        let now = now_ns();
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(daemon) = node.daemon.as_mut() else { return false };
        // The kernel's clock may show a reading this old.
        let end = match until {
            Until::At(until) => node.clock.real(until + CLOCK_STEP),
            Until::Unbounded => FOREVER_NS,
        };
        if end <= now {
            return false;
        }
        daemon.written.retain(|t| t.group != tenure.group);
        daemon.written.insert(tenure);
        node.kernel.leases.insert(tenure.group, (tenure, end));
        self.net.note(format_args!("node {id} holds {tenure:?} until {end}"));
        self.oracle.note_kernel(now, &self.nodes, id);
        true
    }

    /// A program that has read the lease just before may still forward until the grace period ends.
    pub(super) fn close_lease(&mut self, id: NodeId, tenure: Tenure, closed_ns: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(daemon) = node.daemon.as_mut() else { return };
        let ended = |t: &Tenure| t.group == tenure.group && t.epoch <= tenure.epoch;
        daemon.opening.retain(|t, _| !ended(t));
        daemon.written.retain(|t| !ended(t));
        if daemon.written.iter().any(|t| t.group == tenure.group) {
            return;
        }
        if let Some((_, end)) = node.kernel.leases.get_mut(&tenure.group) {
            *end = (*end).min(closed_ns);
        }
        self.net.note(format_args!("node {id} closes {tenure:?} at {closed_ns}"));
    }

    /// Makes the kernel hold what is agreed. An address that left another group is not served before MAX_LEASE
    /// after that was applied here.
    pub(super) fn reconcile(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (clock, run) = (node.clock, node.run);
        let now = clock.local(now_ns());
        let Some(daemon) = node.daemon.as_mut() else { return };
        let image = desired(&daemon.published.state, id);
        let mut addresses = BTreeMap::new();
        let mut next = None;
        let mut wanted = Vec::new();
        for group in &image.groups {
            for address in &group.addresses {
                let settled = match address.after {
                    None => true,
                    Some(index) => {
                        wanted.push(index);
                        let since = *daemon.moves.entry(index).or_insert(now);
                        let at = since + MAX_LEASE + MOVE_SLACK;
                        if now <= at {
                            next = next.max(Some(at));
                        }
                        now > at
                    }
                };
                if settled {
                    addresses.insert(address.address, group.id);
                }
            }
        }
        daemon.moves.retain(|index, _| wanted.contains(index));
        if let Some(at) = next {
            self.at(clock.real(at) + 2, Event::Reconcile { node: id, run });
        }
        let kernel = &mut self.nodes.get_mut(&id).expect("it was there above").kernel;
        if kernel.addresses != addresses {
            kernel.addresses = addresses;
            self.net.note(format_args!("node {id} programs {:?}", self.nodes[&id].kernel.addresses));
            self.oracle.note_kernel(now_ns(), &self.nodes, id);
        }
    }
}
