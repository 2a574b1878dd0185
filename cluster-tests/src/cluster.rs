//! A running cluster: the network, the nodes' processes, and ways to ask and tell them things.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use lockstep_proto::inspect::v1::GroupStatus;

use crate::api;
use crate::certificates::Keys;
use crate::disk::{self, Disks};
use crate::ip;
use crate::manifest::{self, Profile};
use crate::process::Process;
use crate::run::Run;
use crate::topology::{Node, Topology};
use crate::wait;

mod commands;
pub mod files;

/// The example's group.
pub const GROUP: &str = "edge";
/// How long a node may take to answer after its start: five of them load their programs at once, and others may compile
/// beside them.
const START_LIMIT: Duration = Duration::from_secs(40);
/// How long the group may take to have an owner and a standby that holds its flows.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long a standby may take to serve once its owner is lost.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// How long leadership may take to move away from the owner.
const LEADER_LIMIT: Duration = Duration::from_secs(25);
/// Lines of a node's log that are shown when something failed.
const LOG_TAIL: usize = 60;

/// The cluster; everything is gone when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: processes, then the network, then files and pins.
    processes: BTreeMap<Node, Process>,
    /// Who is part of it.
    members: &'static [Node],
    /// The daemon's file, if it is not the usual one.
    program: Option<PathBuf>,
    /// The nodes' disks, if they are small ones.
    disks: Option<Disks>,
    /// The network.
    pub topology: Topology,
    keys: Keys,
    /// Node A makes a cluster of itself alone.
    alone: bool,
    /// Its name and folders.
    pub run: Run,
}

impl Cluster {
    /// The network, the keys and the configuration files of a pair and its witness, but no process.
    pub fn prepare() -> anyhow::Result<Self> {
        Self::prepare_of(&Node::ALL)
    }

    /// The same of these nodes.
    fn prepare_of(members: &'static [Node]) -> anyhow::Result<Self> {
        let run = Run::begin()?;
        let topology = Topology::create(&run, members)?;
        let keys = Keys::create(&run.folder().join("keys"), members)?;
        let cluster = Cluster {
            processes: BTreeMap::new(),
            members,
            program: None,
            disks: None,
            alone: false,
            topology,
            keys,
            run,
        };
        for node in members {
            cluster.configure(*node, str::to_owned)?;
        }
        Ok(cluster)
    }

    /// As [`Cluster::start`], of the example with so many balancers. Any of more than two may own its group, and there is a
    /// group for each of them.
    pub fn start_of(balancers: usize, profile: Profile) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare_of(Node::cluster_of(balancers))?;
        cluster.bring_up_of(balancers, profile).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    fn bring_up_of(&mut self, balancers: usize, profile: Profile) -> anyhow::Result<()> {
        if balancers == 2 {
            return self.bring_up(manifest::EXAMPLE, profile);
        }
        self.bring_up(&manifest::for_any_node(), profile)?;
        if balancers > 2 {
            self.apply(Node::A, &manifest::further_groups(balancers))?;
        }
        self.wait_all_served(self.members)
    }

    /// All nodes started, the cluster made, `manifest` applied, and the group served with a standby ready.
    pub fn start(manifest: &str, profile: Profile) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare()?;
        cluster.bring_up(manifest, profile).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    /// As [`Cluster::start`]; each node has a small disk for its data.
    pub fn start_on_small_disks(manifest: &str, profile: Profile) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare()?;
        cluster.use_small_disks()?;
        cluster.bring_up(manifest, profile).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    /// As [`Cluster::start`], with what `adjust` changes in each balancer's file.
    pub fn start_configured(
        manifest: &str,
        profile: Profile,
        adjust: fn(Node, &str) -> String,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare()?;
        for node in Node::DATAPLANE {
            cluster.configure(node, |file| adjust(node, file))?;
        }
        cluster.bring_up(manifest, profile).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    /// Node A as a cluster of one, which others may join; `manifest` applied, and the group served.
    pub fn start_first(manifest: &str, profile: Profile) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare()?;
        cluster.alone = true;
        cluster.bring_up_first(manifest, profile).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    fn bring_up_first(&mut self, manifest: &str, profile: Profile) -> anyhow::Result<()> {
        self.start_node(Node::A)?;
        self.wait_answering(Node::A)?;
        self.lockstep(Node::A, &["cluster", "init"])?;
        self.apply(Node::A, manifest)?;
        self.apply(Node::A, &manifest::cluster(profile))?;
        self.wait_serving(Node::A)
    }

    /// Waits until a node holds the group's lease.
    pub fn wait_serving(&self, node: Node) -> anyhow::Result<()> {
        self.wait_serving_within(node, READY_LIMIT)
    }

    /// As [`Cluster::wait_serving`], for so long at most.
    pub fn wait_serving_within(&self, node: Node, limit: Duration) -> anyhow::Result<()> {
        wait::until_ok(&format!("{} to hold the lease", node.name()), limit, || {
            anyhow::ensure!(self.group(node)?.lease_held, "{} does not hold the lease", node.name());
            Ok(())
        })
    }

    /// Starts a node and lets it join the cluster; what `lockstep cluster join` said.
    pub fn join(&mut self, node: Node, arguments: &[&str]) -> anyhow::Result<String> {
        self.start_node(node)?;
        self.wait_answering(node)?;
        self.lockstep(node, &[&["cluster", "join"], arguments].concat())
    }

    /// Starts a node that forgot who it was, and lets it take the place it had before, as another of the same name.
    pub fn replace(&mut self, node: Node) -> anyhow::Result<()> {
        self.start_node(node)?;
        self.wait_answering(node)?;
        // The first of them who answers; whom the cluster has lost was perhaps the leader.
        let other = node.others()[0];
        wait::until_ok(&format!("{} to leave", node.name()), READY_LIMIT, || {
            self.lockstep(other, &["cluster", "leave", node.name()])
        })?;
        wait::until_ok(&format!("{} to join again", node.name()), READY_LIMIT, || {
            self.lockstep(node, &["cluster", "join"])
        })?;
        Ok(())
    }

    /// As [`Cluster::start`], with IPv6 beside IPv4, and what `adjust` changes in each balancer's file.
    pub fn start_dual(
        manifest: &str,
        profile: Profile,
        adjust: fn(Node, &str) -> String,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare()?;
        cluster.topology.add_ipv6()?;
        for node in Node::DATAPLANE {
            cluster.configure(node, |file| adjust(node, file))?;
        }
        cluster.bring_up(manifest, profile).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    /// Node a alone, serving by itself, with IPv6 beside IPv4 on cables like wires, and what `adjust` changes in its
    /// file.
    pub fn start_alone(manifest: &str, adjust: impl FnOnce(&str) -> String) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare_of(Node::cluster_of(1))?;
        cluster.topology.add_ipv6()?;
        cluster.topology.like_wires()?;
        cluster.configure(Node::A, adjust)?;
        let manifest = manifest.replace("nodes: [a, b]", "nodes: [a]");
        cluster.bring_up(&manifest, Profile::Lan).map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }

    /// Writes a node's file anew: the usual one, with what `adjust` changes.
    pub fn configure(&self, node: Node, adjust: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
        let path = self.config(node);
        fs::write(&path, adjust(&files::usual(node, self.members)))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// From now on daemons are started from this file; with `None`, from the usual one.
    pub fn use_program(&mut self, program: Option<PathBuf>) {
        self.program = program;
    }

    /// Before any node is started.
    fn use_small_disks(&mut self) -> anyhow::Result<()> {
        let of: Vec<_> = self.members.iter().map(|node| (*node, self.data_dir(*node))).collect();
        let disks = Disks::create(&self.run.folder(), &of)?;
        self.program = Some(disks.program());
        self.disks = Some(disks);
        Ok(())
    }

    /// The nodes' small disks.
    pub fn disks(&self) -> anyhow::Result<&Disks> {
        self.disks.as_ref().context("this cluster has no small disks")
    }

    /// Whose daemon says that its disk is full.
    pub fn with_full_disks(&self) -> anyhow::Result<Vec<Node>> {
        let mut full = Vec::new();
        for node in self.members {
            if api::node_status(self.topology.node(*node))?.not_ready.contains(disk::FULL) {
                full.push(*node);
            }
        }
        Ok(full)
    }

    /// Starts the members, makes the cluster, and applies `manifest`: the group is served, with a standby ready.
    pub fn bring_up(&mut self, manifest: &str, profile: Profile) -> anyhow::Result<()> {
        for node in self.members {
            self.start_node(*node)?;
        }
        for node in self.members {
            self.wait_answering(*node)?;
        }
        self.lockstep(Node::A, &["cluster", "init"])?;
        self.apply(Node::A, manifest)?;
        self.apply(Node::A, &manifest::cluster(profile))?;
        self.wait_ready()?;
        Ok(())
    }

    /// Starts a node's daemon, once a former one of it is gone.
    pub fn start_node(&mut self, node: Node) -> anyhow::Result<()> {
        drop(self.processes.remove(&node));
        let command = self.daemon(node, &[])?;
        let process = Process::start(
            &format!("lockstepd {}", node.name()),
            command,
            Some(self.topology.node(node)),
            &self.log(node),
        )?;
        self.processes.insert(node, process);
        Ok(())
    }

    /// The certificates and the secret.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A node's configuration file.
    pub fn config(&self, node: Node) -> PathBuf {
        self.run.folder().join(format!("{}.toml", node.name()))
    }

    /// A node's data.
    pub fn data_dir(&self, node: Node) -> PathBuf {
        self.run.folder().join("data").join(node.name())
    }

    /// A node's pins.
    pub fn pin_dir(&self, node: Node) -> PathBuf {
        self.run.pins().join(node.name())
    }

    /// Takes out of the kernel what a dead node left there, as a loss of power does: its pins, the forwarding that it
    /// switched on, and the packets that wait for a neighbour since the links were cut (the kernel asks again every
    /// second, and would send them when the links return).
    pub fn forget_kernel_state(&self, node: Node) -> anyhow::Result<()> {
        let pins = self.pin_dir(node);
        fs::remove_dir_all(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
        let off = ["ipv4/conf/eth0", "ipv4/conf/eth1", "ipv6/conf/eth0", "ipv6/conf/eth1"]
            .map(|of| format!("net/{of}/forwarding"));
        self.topology.node(node).sysctl(&off.each_ref().map(|key| (key.as_str(), "0")))?;
        self.forget_neighbours(node)
    }

    /// Takes its neighbours, and what waits for them, from a node's kernel.
    pub fn forget_neighbours(&self, node: Node) -> anyhow::Result<()> {
        let flush = ["eth0", "eth1"].map(|interface| format!("neigh flush dev {interface}"));
        ip::batch(self.topology.node(node).name(), &flush)
    }

    fn log(&self, node: Node) -> PathBuf {
        self.run.folder().join(format!("{}.log", node.name()))
    }

    /// A node's process, if it was started.
    pub fn process(&mut self, node: Node) -> anyhow::Result<&mut Process> {
        self.processes.get_mut(&node).with_context(|| format!("node {} was not started", node.name()))
    }

    /// Waits until a node answers on its API.
    pub fn wait_answering(&mut self, node: Node) -> anyhow::Result<()> {
        let what = format!("node {} to answer", node.name());
        wait::until(&what, START_LIMIT, || {
            let process = self.process(node)?;
            if !process.running()? {
                bail!("lockstepd of node {} {}", node.name(), process.describe_end());
            }
            Ok(api::cluster_status(self.topology.node(node)).ok().map(|_| ()))
        })
    }

    /// Waits until the balancers' kernels hold what the cluster agreed on up to now.
    pub fn wait_programmed(&self) -> anyhow::Result<()> {
        let mut revision = 0;
        for &node in self.members {
            revision = revision.max(api::cluster_status(self.topology.node(node))?.revision);
        }
        for node in self.topology.balancers() {
            let what = format!("node {} to program revision {revision}", node.name());
            wait::until(&what, READY_LIMIT, || {
                let status = api::node_status(self.topology.node(node))?;
                Ok((status.programmed_revision >= revision).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Its nodes.
    pub fn members(&self) -> &'static [Node] {
        self.members
    }

    /// What a node says of the group.
    pub fn group(&self, node: Node) -> anyhow::Result<GroupStatus> {
        api::group_status(self.topology.node(node), GROUP)
    }

    /// The nodes that hold the group's flows beside its owner, as a node knows.
    pub fn standbys(&self, node: Node) -> anyhow::Result<Vec<Node>> {
        let standbys = self.group(node)?.standbys.into_iter().filter(|standby| standby.chosen);
        standbys.map(|standby| Node::from_name(&standby.node_name)).collect()
    }

    /// Waits until the group has an owner that holds the lease and, if there is another balancer, standbys with all its
    /// flows.
    pub fn wait_ready(&self) -> anyhow::Result<Node> {
        wait::until_ok("an owner with a lease and standbys that have caught up", READY_LIMIT, || {
            let owner = self.owner()?;
            let status = self.group(owner)?;
            anyhow::ensure!(status.lease_held, "{} does not hold the lease", owner.name());
            let others = self.members.iter().filter(|node| node.balances() && **node != owner).count();
            let chosen: Vec<_> = status.standbys.iter().filter(|standby| standby.chosen).collect();
            anyhow::ensure!(others == 0 || !chosen.is_empty(), "{} has no standby", owner.name());
            for standby in chosen {
                anyhow::ensure!(
                    standby.eligible && standby.caught_up,
                    "standby {} is {}, caught up: {}",
                    standby.node_name,
                    standby.reason,
                    standby.caught_up
                );
            }
            Ok(owner)
        })
    }

    /// Waits until every group is served by one of `nodes`.
    pub fn wait_all_served(&self, nodes: &[Node]) -> anyhow::Result<()> {
        wait::until_ok("every group to be served", TAKEOVER_LIMIT, || {
            let said = nodes.iter().map(|node| api::groups(self.topology.node(*node)));
            let said = said.collect::<anyhow::Result<Vec<_>>>()?.concat();
            let served: BTreeSet<&str> =
                said.iter().filter(|g| g.lease_held).map(|g| g.name.as_str()).collect();
            let idle = said.iter().find(|group| !served.contains(group.name.as_str()));
            idle.map_or(Ok(()), |group| bail!("nobody serves {}", group.name))
        })
    }

    /// Waits until a node serves that did not.
    pub fn wait_takeover(&self, next: Node) -> anyhow::Result<()> {
        wait::until(&format!("{} to take over", next.name()), TAKEOVER_LIMIT, || {
            Ok(self.group(next).ok().filter(|group| group.lease_held).map(|_| ()))
        })
    }

    /// The owner, as the first node that answers says.
    pub fn owner(&self) -> anyhow::Result<Node> {
        self.owner_by(self.members)
    }

    /// The owner, as the first of `nodes` that knows one says.
    pub fn owner_by(&self, nodes: &[Node]) -> anyhow::Result<Node> {
        let mut last = None;
        for &node in nodes {
            match self.group(node) {
                Ok(status) if !status.owner_name.is_empty() => return Node::from_name(&status.owner_name),
                Ok(_) => last = Some(anyhow::anyhow!("{} knows no owner", node.name())),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("nobody was asked")))
    }

    /// The Raft leader, as the first of `nodes` that knows one says.
    pub fn leader(&self, nodes: &[Node]) -> anyhow::Result<Node> {
        for node in nodes {
            let Ok(status) = api::cluster_status(self.topology.node(*node)) else { continue };
            if let Some(leader) = status.members.iter().find(|m| m.id == status.leader_id) {
                return Node::from_name(&leader.name);
            }
        }
        bail!("no node knows a leader")
    }

    /// Waits until the leader is (or is not) `node`.
    pub fn wait_leader(&self, node: Node, is: bool) -> anyhow::Result<Node> {
        let what = format!("the leader {}to be {}", if is { "" } else { "not " }, node.name());
        wait::until(&what, LEADER_LIMIT, || {
            Ok(self.leader(self.members).ok().filter(|leader| (*leader == node) == is))
        })
    }

    /// As [`Cluster::wait_leader`], until every member says the same of who leads: one that was away may still believe
    /// what was so before.
    pub fn wait_agreed_leader(&self, node: Node, is: bool) -> anyhow::Result<Node> {
        let what = format!("all to agree that the leader is {}{}", if is { "" } else { "not " }, node.name());
        wait::until_ok(&what, LEADER_LIMIT, || {
            let said: Vec<Node> =
                self.members.iter().map(|of| self.leader(&[*of])).collect::<anyhow::Result<_>>()?;
            anyhow::ensure!(
                said.iter().all(|leader| *leader == said[0]) && (said[0] == node) == is,
                "they say {said:?}"
            );
            Ok(said[0])
        })
    }

    /// Adds the ends of all nodes' logs to an error.
    pub fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        if crate::interrupt::requested() {
            return error;
        }
        let mut text = String::new();
        for process in self.processes.values_mut() {
            let end = process.describe_end();
            let tail = process.tail(LOG_TAIL);
            text += &format!("\n--- {} {end}; the end of its log:\n{tail}", process.name());
        }
        anyhow::anyhow!("{error:#}{text}")
    }
}
