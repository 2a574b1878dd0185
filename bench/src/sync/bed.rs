//! Where replication is measured: the cluster of the demo (two balancers and a witness, real daemons), with room for
//! millions of flows, and endpoints that take a SYN and say nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use lockstep_cluster_tests::api;
use lockstep_cluster_tests::cluster::Cluster;
use lockstep_cluster_tests::cluster::files::with_room;
use lockstep_cluster_tests::manifest::{EXAMPLE, Profile};
use lockstep_cluster_tests::namespace::Handle;
use lockstep_cluster_tests::nft;
use lockstep_cluster_tests::topology::{Node, VIP};
use lockstep_cluster_tests::wait;
use lockstep_loader::SCHEMA;
use lockstep_proto::inspect::v1::CountersRequest;
use lockstep_proto::inspect::v1::inspect_client::InspectClient;

use super::cost::Watched;
use super::generator::Generator;
use crate::interface::interface;

/// The service that flows are made of.
pub(crate) const SERVICE: (std::net::Ipv4Addr, u16) = (VIP, 443);
const ENDPOINT_PORT: u16 = 8443;
/// Room for this many flows.
pub(crate) const MAX_FLOWS: u32 = 2_000_000;
/// The clients' interface, and the owner's towards them.
pub(crate) const OUTER: &str = "eth0";
/// Between the nodes.
pub(crate) const WIRE: &str = "eth2";
/// How long the first flows may take: neighbours are unknown yet.
const WARM_UP: Duration = Duration::from_secs(10);

/// The cluster, serving, with a standby that has caught up.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) owner: Node,
    pub(crate) generator: Generator,
}

/// What a node's replication counted, by name.
pub(crate) struct Counts(Vec<(String, u64)>);

impl Counts {
    pub(crate) fn get(&self, name: &str) -> anyhow::Result<u64> {
        let found = self.0.iter().find(|(counted, _)| counted == name);
        found.map(|(_, value)| *value).with_context(|| format!("no counter {name}"))
    }
}

/// The intent: flows last as long as the benchmark, and are replicated by `policy`.
pub(crate) fn manifest(policy: &str) -> String {
    with_timeout(policy, "1h")
}

/// The same; flows last for `timeout`.
pub(crate) fn with_timeout(policy: &str, timeout: &str) -> String {
    let timeouts = format!("timeouts: {{syn: {timeout}, established: 1h}}");
    EXAMPLE.replace("sync: immediate", &format!("sync: {policy}\n  {timeouts}"))
}

impl Bed {
    pub(crate) fn create() -> anyhow::Result<Self> {
        Self::of(&manifest("immediate"))
    }

    pub(crate) fn of(manifest: &str) -> anyhow::Result<Self> {
        let room = |_: Node, file: &str| with_room(file, MAX_FLOWS);
        let cluster = Cluster::start_configured(manifest, Profile::Lan, room)?;
        let owner = cluster.wait_ready()?;
        for endpoint in &cluster.topology.endpoints {
            silence(endpoint)?;
        }
        let mac = cluster.topology.node(owner).run(|| Ok(interface(OUTER)?.1))?;
        let generator = Generator::open(&cluster.topology.clients, OUTER, mac, SERVICE)?;
        let mut bed = Bed { cluster, owner, generator };
        bed.warm_up()?;
        Ok(bed)
    }

    fn warm_up(&mut self) -> anyhow::Result<()> {
        let before = self.counts(self.owner)?.get("origin_changes")?;
        wait::until("the first flows", WARM_UP, || {
            self.generator.run(Some(100), 10, None)?;
            Ok((self.counts(self.owner)?.get("origin_changes")? > before).then_some(()))
        })?;
        wait::pass(Duration::from_secs(1))
    }

    pub(crate) fn standby(&self) -> Node {
        self.owner.other()
    }

    /// The meters of both daemons and of the wire between them.
    pub(crate) fn watched(&mut self) -> anyhow::Result<Watched> {
        let (owner, standby) = (self.owner, self.standby());
        Ok(Watched {
            sender: self.cluster.process(owner)?.pid(),
            receiver: self.cluster.process(standby)?.pid(),
            wire: self.cluster.topology.node(owner).handle().clone(),
            device: WIRE,
        })
    }

    /// Where a node's kernel has the flows.
    pub(crate) fn table(&self, node: Node) -> PathBuf {
        self.cluster.pin_dir(node).join(format!("v{SCHEMA}")).join("maps").join("FLOWS4")
    }

    /// What a node's replication counted.
    pub(crate) fn counts(&self, node: Node) -> anyhow::Result<Counts> {
        counts(&self.cluster, node)
    }
}

/// See [`Bed::counts`].
pub(crate) fn counts(cluster: &Cluster, node: Node) -> anyhow::Result<Counts> {
    let answer = api::ask(cluster.topology.node(node), async |channel| {
        Ok(InspectClient::new(channel).counters(CountersRequest {}).await?.into_inner())
    })?;
    let ours = answer.counters.into_iter().filter(|counter| counter.family == "sync");
    Ok(Counts(ours.map(|counter| (counter.name, counter.value)).collect()))
}

/// Drops what arrives for the service's port, before anybody would answer.
pub(crate) fn silence(endpoint: &Handle) -> anyhow::Result<()> {
    let rules = format!(
        "table ip sink {{\n chain in {{ type filter hook prerouting priority raw;\n\
         tcp dport {ENDPOINT_PORT} drop\n}}\n}}\n"
    );
    nft::load(endpoint, &rules)
}
