//! Whether a cluster that nothing disturbs any more works as it should.

use lockstep_model::ids::NodeId;
use lockstep_raft_store::Role;

use super::{MS, World};
use crate::net::now_ns;
use crate::node::Node;

/// How often a condition is looked at.
const POLL_NS: u64 = 50 * MS;

impl World {
    /// Nothing fails any more, and clients fall silent.
    pub(crate) async fn heal(&mut self) {
        self.net.note(format_args!("healed"));
        self.net.lock().heal();
        self.clients = false;
        for id in self.ids() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.paused_until_ns = 0;
                node.disk.set_free(None);
            }
            self.drain(id, false);
            self.read_inbox(id);
            self.start(id).await;
        }
    }

    /// Runs until the cluster works; it is a violation if that takes longer than `within_ns`.
    pub(crate) async fn converge(&mut self, within_ns: u64) {
        let end = now_ns() + within_ns;
        loop {
            self.run_for(POLL_NS).await;
            self.readmit();
            if self.oracle.violation().is_some() {
                return;
            }
            match self.converged() {
                Ok(()) => return self.net.note(format_args!("converged")),
                Err(why) if now_ns() >= end => {
                    let what = format!("healed for {within_ns} ns, but {why}\n{}", self.describe());
                    return self.oracle.violate(what);
                }
                Err(_) => {}
            }
        }
    }

    /// Whoever has no vote gets one.
    fn readmit(&mut self) {
        let Some(leader) = self.raft_leader().and_then(|id| self.replica(id)) else { return };
        let voters = leader.voters();
        let Some(node) = self.ids().into_iter().find(|id| !voters.contains(id)) else { return };
        self.join(leader, node);
    }

    /// Whether all agree, and every group is served by its owner and by nobody else.
    fn converged(&self) -> Result<(), String> {
        let leader = self.raft_leader().ok_or("nobody leads")?;
        let metrics = self.replica(leader).ok_or("the leader does not run")?.metrics();
        if metrics.voters.len() < self.nodes.len() {
            return Err(format!("only {:?} vote", metrics.voters));
        }
        for (id, node) in &self.nodes {
            let daemon = node.daemon.as_ref().ok_or_else(|| format!("node {id} does not run"))?;
            let applied = daemon.published.applied.map_or(0, |i| i.get());
            if applied < metrics.last_log || daemon.replica.metrics().leader != Some(leader) {
                return Err(format!("node {id} has applied {applied} of {}", metrics.last_log));
            }
        }
        let state = &self.nodes[&leader].daemon.as_ref().ok_or("the leader does not run")?.published.state;
        for (id, group) in &state.groups {
            let owner = group.assignment.map(|a| a.node);
            let now = now_ns();
            let holds = |n: &Node| n.kernel.leases.get(id).is_some_and(|(_, end)| *end > now);
            let serving: Vec<NodeId> =
                self.nodes.iter().filter(|(_, n)| holds(n)).map(|(id, _)| *id).collect();
            if owner.is_none() || serving != Vec::from_iter(owner) {
                return Err(format!("group {id} belongs to {owner:?} but is served by {serving:?}"));
            }
            let kernel = &self.nodes[&serving[0]].kernel;
            let unserved = group.spec.addresses.iter().find(|a| kernel.addresses.get(*a) != Some(id));
            if let Some(address) = unserved {
                return Err(format!("{address} of group {id} is not served"));
            }
        }
        Ok(())
    }

    /// What everybody believes, for a failure's message.
    fn describe(&self) -> String {
        let mut text = String::new();
        for (id, node) in &self.nodes {
            let Some(daemon) = &node.daemon else {
                text += &format!("node {id}: down\n");
                continue;
            };
            let now = node.clock.local(now_ns());
            let raft = daemon.replica.metrics();
            let role = if raft.role == Role::Leader { "leads" } else { "follows" };
            text += &format!(
                "node {id}: {role} in term {}, log {} applied {}, voters {:?}; claims {:?} promises {:?} heard {:?}\n",
                raft.term,
                raft.last_log,
                raft.applied,
                raft.voters,
                daemon.participant.owner().claims().collect::<Vec<_>>(),
                daemon.participant.voter().promises(now).collect::<Vec<_>>(),
                daemon.participant.voter().heard(now).collect::<Vec<_>>(),
            );
        }
        text
    }

    /// Every daemon ends, so that nothing of this world is left.
    pub(crate) async fn end(&mut self) {
        for id in self.ids() {
            self.stop(id, false);
        }
        self.run_for(POLL_NS).await;
    }
}
