//! The parts of a running node that the APIs look at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use lockstep_model::ids::{GroupId, LogIndex};
use lockstep_model::intent::NodeSpec;
use lockstep_model::state::State;
use lockstep_raft_store::RaftNode;

use crate::config::Config;
use crate::{dataplane, health, lease, routing, sync};

/// A running node.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) raft: RaftNode,
    /// Absent on a witness.
    pub(crate) dataplane: Option<dataplane::Handle>,
    /// What exists only once the node belongs to a cluster.
    pub(crate) member: OnceLock<Member>,
    pub(crate) health: Arc<health::Health>,
    /// Told of owner changes, if the configuration names one.
    pub(crate) routing: Option<routing::Hook>,
    pub(crate) started: Instant,
    draining: AtomicBool,
}

/// What a node has as a member of a cluster.
pub(crate) struct Member {
    pub(crate) lease: lease::Handle,
    /// Absent on a witness.
    pub(crate) sync: Option<sync::Sync>,
    /// When the lease thread began.
    pub(crate) since: Instant,
    /// The kernel kept flows of an earlier run: of groups made up to this index of the log.
    pub(crate) kept: Option<LogIndex>,
}

impl Parts {
    pub(crate) fn new(
        config: Config,
        raft: RaftNode,
        dataplane: Option<dataplane::Handle>,
        routing: Option<routing::Hook>,
    ) -> Self {
        let draining = AtomicBool::new(false);
        let (health, member) = (Arc::default(), OnceLock::new());
        Self { config, raft, dataplane, member, health, routing, started: Instant::now(), draining }
    }

    /// The lease thread, once there is one.
    pub(crate) fn lease(&self) -> Option<&lease::Handle> {
        self.member.get().map(|member| &member.lease)
    }

    /// The replication driver, once there is one.
    pub(crate) fn sync(&self) -> Option<&sync::Sync> {
        self.member.get().and_then(|member| member.sync.as_ref())
    }

    /// Whether the node is giving its groups away.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on it is, or no more.
    pub(crate) fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// What this node says of itself to the cluster.
    pub(crate) fn spec(&self) -> NodeSpec {
        NodeSpec {
            name: self.config.node.name.clone(),
            role: self.config.node.role,
            cluster_address: self.config.cluster.listen,
            lease_address: self.config.lease.listen,
        }
    }

    /// Why this node does not do its job, if so.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let raft = self.raft.metrics();
        if let Some(full) = self.raft.disk_full() {
            return Some(full.to_string());
        }
        if let Some(reason) = raft.stopped {
            return Some(format!("raft has stopped: {reason}"));
        }
        if self.member.get().is_none() {
            return Some(
                "this node belongs to no cluster yet: run `lockstep cluster init` on one node, or `lockstep cluster join` here"
                    .to_owned(),
            );
        }
        if raft.leader.is_none() {
            return Some("no leader is known".to_owned());
        }
        if let Some(programmed) = self.dataplane.as_ref().map(|dataplane| dataplane.programmed()) {
            if let Some(error) = programmed.error {
                return Some(format!("the kernel does not hold the agreed state: {error}"));
            }
            if !programmed.detached.is_empty() {
                return Some(format!("interfaces without the programs: {}", programmed.detached.join(", ")));
            }
        }
        self.is_draining().then(|| "draining".to_owned())
    }

    /// Whether this node shall own nothing: it ends, it leaves, or an operator asked for it.
    pub(crate) fn gives_away(&self, state: &State) -> bool {
        let asked = self.raft.identity().is_some_and(|identity| state.draining.contains(&identity.node));
        self.is_draining() || asked
    }

    /// A group's name, for people.
    pub(crate) fn group_name(&self, group: GroupId) -> String {
        let state = self.raft.stale();
        state.groups.get(&group).map_or_else(|| format!("group {group}"), |g| g.spec.name.clone())
    }
}
