//! A new cluster: its machines, its first membership, its first intent.

use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;

use lockstep_model::command::{Change, Command};
use lockstep_model::ids::NodeId;
use lockstep_model::intent::{ClusterSettings, GroupSpec, LeaseProfile, NodeRole, NodeSpec};
use lockstep_raft_store::Role;
use lockstep_seeded::Rng;

use super::{Event, MS, Results, World};
use crate::clock::{Clock, MAX_PPM};
use crate::net::{SharedNet, address};
use crate::node::Node;
use crate::oracle::Oracle;

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Voters at the beginning.
    pub voters: u64,
    /// Nodes that run, and may become voters later.
    pub spares: u64,
    /// The last voter is a witness.
    pub witness: bool,
    /// Groups, each with two addresses.
    pub groups: usize,
    /// Lease duration.
    pub lease: LeaseProfile,
    /// How far the clocks' rates are apart, as a multiple of the bound; 1: just within it.
    pub drift: u64,
}

/// Addresses of a group; the second may move.
pub(crate) fn group_addresses(group: usize) -> [IpAddr; 2] {
    let last = 10 * u8::try_from(group + 1).expect("a simulated cluster is small");
    [[192, 0, 2, last].into(), [192, 0, 2, last + 1].into()]
}

/// A group's intent.
pub(crate) fn group_spec(group: usize, addresses: Vec<IpAddr>) -> GroupSpec {
    GroupSpec {
        name: format!("g{group}"),
        addresses,
        interfaces: Vec::new(),
        nodes: Vec::new(),
        standbys: 1,
        failback: false,
    }
}

impl World {
    /// A cluster that has a leader and its first intent. Its voters promise nothing yet.
    pub async fn found(rng: &mut Rng, shape: Shape, keep_text: bool) -> Self {
        let mut world = World {
            net: SharedNet::new(rng.fork(), keep_text),
            rng: rng.fork(),
            nodes: BTreeMap::new(),
            oracle: Oracle::default(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            clients: false,
            next_rule: 0,
            results: Results::default(),
        };
        for id in (1..=shape.voters + shape.spares).map(NodeId) {
            // Extreme rates are where the bound is tested.
            let ppm = match world.rng.below(4) {
                0 => 0,
                1 => 2 * MAX_PPM * shape.drift,
                _ => world.rng.below(2 * MAX_PPM + 1) * shape.drift,
            };
            let clock = Clock::new(world.rng.below(1 << 40), ppm);
            world.nodes.insert(id, Node::new(id, clock));
            world.start(id).await;
        }
        world.after(0, Event::Roles);
        let members = (1..=shape.voters).map(|id| (NodeId(id), address(NodeId(id)))).collect();
        let first = world.replica(NodeId(1)).expect("it was started");
        if let Err(e) = first.initialise(&members).await {
            world.oracle.violate(format!("the cluster cannot be formed: {e}"));
        }
        for id in world.ids() {
            let role = if shape.witness && id.get() == shape.voters {
                NodeRole::Witness
            } else {
                NodeRole::Dataplane
            };
            let (cluster_address, lease_address) = (address(id), address(id));
            let spec = NodeSpec { name: format!("n{id}"), role, cluster_address, lease_address };
            world.write(Command::RegisterNode { id, spec }).await;
        }
        let groups = (0..shape.groups)
            .map(|group| Change::UpsertGroup(group_spec(group, group_addresses(group).to_vec())));
        let settings = ClusterSettings { lease: shape.lease, ..ClusterSettings::default() };
        let changes = std::iter::once(Change::SetCluster(settings)).chain(groups).collect();
        world.write(Command::Change { expected: None, changes }).await;
        world
    }

    /// Writes, however often it has to be tried. Only while nothing fails.
    async fn write(&mut self, command: Command) {
        while self.oracle.violation().is_none() {
            self.run_for(10 * MS).await;
            let Some(leader) = self.raft_leader().and_then(|id| self.replica(id)) else { continue };
            if leader.write(command.clone()).await.is_ok() {
                return;
            }
        }
    }

    /// Every node that believes that it leads.
    pub(crate) fn raft_leaders(&self) -> Vec<NodeId> {
        let daemons = self.nodes.iter().filter_map(|(id, n)| Some((*id, n.daemon.as_ref()?)));
        daemons.filter(|(_, d)| d.replica.metrics().role == Role::Leader).map(|(id, _)| id).collect()
    }

    /// The running node that leads in the highest term.
    pub(crate) fn raft_leader(&self) -> Option<NodeId> {
        let daemons = self.nodes.iter().filter_map(|(id, n)| Some((*id, n.daemon.as_ref()?)));
        let roles = daemons.map(|(id, d)| (id, d.replica.metrics()));
        let leaders = roles.filter(|(_, m)| m.role == Role::Leader);
        leaders.max_by_key(|(_, m)| m.term).map(|(id, _)| id)
    }
}
