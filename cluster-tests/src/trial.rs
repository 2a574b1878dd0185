//! One fault on one running cluster under traffic, from the first connection to the report.

use std::time::Duration;

use anyhow::Context;

use crate::api;
use crate::capture::watch::Capture;
use crate::clock::{self, Nanos};
use crate::cluster::{Cluster, GROUP};
use crate::dump::{self, Table};
use crate::fault::{self, Event, Fault};
use crate::manifest::{self, Profile};
use crate::report::Report;
use crate::topology::{CLIENTS, Node, VIP};
use crate::traffic::load::{Clients, Endpoints, Volume};
use crate::traffic::stray::Strays;
use crate::wait;

mod evaluate;

use evaluate::{Evidence, Ownership};

/// The example's TCP service.
pub const WEB: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(VIP, 443);
/// The example's UDP service.
pub const DNS: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(VIP, 53);
/// How long young flows are opened before the fault.
const YOUNG_FOR: Duration = Duration::from_secs(2);
/// How long a standby may take to become the owner before the run is evaluated without.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);

/// Where the Raft leader shall be when the fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader {
    /// Not on the owner, where it moves by itself.
    Away,
    /// On the owner, forced.
    OnOwner,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The fault.
    pub fault: Fault,
    /// Held TCP flows; a quarter as many UDP flows come with them.
    pub flows: usize,
    /// How long traffic runs before the fault, and again after it.
    pub around: Duration,
    /// The cluster's profile.
    pub profile: Profile,
    /// The manifest that was applied, whose weights are changed under way.
    pub manifest: String,
    /// Where the leader shall be.
    pub leader: Leader,
    /// Called right after the fault was injected, with the node it hit: where a test makes things worse.
    pub after_fault: Option<fn(&mut Cluster, Node) -> anyhow::Result<()>>,
}

impl Trial {
    /// `fault` on the example's manifest, as the demo does it.
    pub fn new(fault: Fault, profile: Profile) -> Self {
        Trial {
            fault,
            flows: 200,
            around: Duration::from_secs(3),
            profile,
            manifest: manifest::EXAMPLE.to_owned(),
            leader: Leader::Away,
            after_fault: None,
        }
    }

    /// Runs it on a cluster that is ready, and says what it does on standard output.
    pub fn run(&self, cluster: &mut Cluster) -> anyhow::Result<Report> {
        self.measure(cluster).map_err(|error| cluster.explain(error))
    }

    fn measure(&self, cluster: &mut Cluster) -> anyhow::Result<Report> {
        let owner = cluster.wait_ready()?;
        let nodes = cluster.members();
        let lease = Duration::from_millis(self.profile.lease_ms());
        let endpoints = Endpoints::start(&cluster.topology)?;
        let capture = Capture::start(&cluster.topology)?;
        let volume = Volume::new(self.flows, self.flows / 4, WEB, DNS);
        say(&format!(
            "{} serves; opening {} TCP and {} UDP flows",
            owner.name(),
            volume.tcp_flows,
            volume.udp_flows
        ));
        let clients = Clients::start(&cluster.topology, volume)?;
        let strays = Strays::start(&cluster.topology, CLIENTS[CLIENTS.len() - 1], DNS)?;
        cluster
            .apply(others(nodes, owner)[0], &manifest::reweighted(&self.manifest))
            .context("changing weights")?;
        say("weights changed; traffic runs undisturbed");
        wait::pass(self.around.saturating_sub(YOUNG_FOR))?;
        self.place_leader(cluster, owner)?;
        let flows_on_standby = fewest_flows(cluster, owner)?;
        clients.open_young()?;
        wait::pass(YOUNG_FOR)?;
        // On a machine that stands still for longer than a lease, the group has moved meanwhile.
        let owner = cluster.owner()?;
        let survivors = others(nodes, owner);
        let before = api::groups(cluster.topology.node(owner))?;
        let leader_before = cluster.leader(nodes)?;
        let mut failovers = failovers(cluster, nodes);

        let injected = fault::inject(cluster, owner, self.fault)?;
        clients.fault(injected.at)?;
        let mut events = injected.events;
        say(&format!("fault: {} on {}", self.fault.name(), owner.name()));
        if let Some(worsen) = self.after_fault {
            worsen(cluster, owner)?;
        }
        let unsynced = match self.fault {
            Fault::None => None,
            _ if nodes.len() == 1 => None,
            _ => takeover(cluster, owner)?.map(|tables| dump::missing(&tables.0, &tables.1)),
        };
        events.extend(fault::end(cluster, owner, self.fault, injected.at, lease)?);
        let elapsed = Duration::from_nanos(clock::now() - injected.at);
        wait::pass(self.around.saturating_sub(elapsed))?;

        let until = clock::now();
        let outcome = clients.finish()?;
        strays.stop()?;
        let seen = capture.finish()?;
        let after = api::groups(cluster.topology.node(survivors[0]))?;
        failovers.extend(self::failovers(cluster, &survivors));
        let evidence = Evidence {
            trial: self,
            balancers: cluster.topology.balancers().count(),
            at: injected.at,
            until,
            owner,
            before: Ownership::of(before)?,
            after: Ownership::of(after)?,
            leader_before,
            leader_after: cluster.leader(&survivors)?,
            flows_on_standby,
            unsynced,
            corrupted_at_endpoints: endpoints.counts.corrupted.load(std::sync::atomic::Ordering::Relaxed),
            outcome: &outcome,
            seen: &seen,
            events,
            failovers,
        };
        let report = evidence.report();
        drop(outcome);
        endpoints.stop()?;
        Ok(report)
    }

    fn place_leader(&self, cluster: &Cluster, owner: Node) -> anyhow::Result<()> {
        match self.leader {
            // Where nobody else is.
            Leader::Away if cluster.members().len() == 1 => Ok(()),
            Leader::Away => cluster.wait_leader(owner, false).map(|_| ()),
            Leader::OnOwner => {
                cluster.lockstep(owner, &["cluster", "transfer-leader", owner.name()])?;
                cluster.wait_leader(owner, true).map(|_| ())
            }
        }
    }
}

/// Everybody but the owner; of a node alone, that node.
fn others(nodes: &[Node], owner: Node) -> Vec<Node> {
    match nodes {
        [_] => nodes.to_vec(),
        _ => nodes.iter().copied().filter(|node| *node != owner).collect(),
    }
}

/// How many flows the standby has that has fewest; none without a standby.
fn fewest_flows(cluster: &Cluster, owner: Node) -> anyhow::Result<usize> {
    let standbys = cluster.standbys(owner)?.into_iter();
    let counts = standbys.map(|standby| Ok(dump::table(cluster, standby)?.len()));
    Ok(counts.collect::<anyhow::Result<Vec<_>>>()?.into_iter().min().unwrap_or(0))
}

/// Waits for a standby to hold the lease and reads both flow tables at once; none when none takes over.
fn takeover(cluster: &Cluster, former: Node) -> anyhow::Result<Option<(Table, Table)>> {
    let serves = |node: &Node| cluster.group(*node).is_ok_and(|status| status.lease_held);
    let taken = wait::until("a standby to take over", TAKEOVER_LIMIT, || {
        Ok(cluster.topology.balancers().filter(|node| *node != former).find(serves))
    });
    let next = match taken {
        Ok(next) => next,
        Err(error) => {
            crate::interrupt::check()?;
            say(&format!("{error:#}"));
            return Ok(None);
        }
    };
    say(&format!("{} took over", next.name()));
    std::thread::scope(|scope| {
        let old = scope.spawn(|| dump::table(cluster, former));
        let new = dump::table(cluster, next)?;
        let old = old.join().map_err(|_| anyhow::anyhow!("reading a flow table panicked"))??;
        Ok(Some((old, new)))
    })
}

/// The nodes' own records of what happened to the group with the traffic, by node. A node that cannot be asked has none.
fn failovers(cluster: &Cluster, nodes: &[Node]) -> Vec<(Node, lockstep_proto::inspect::v1::Failover)> {
    nodes
        .iter()
        .flat_map(|node| {
            let records = api::failovers(cluster.topology.node(*node)).unwrap_or_default();
            records.into_iter().filter(|record| record.group_name == GROUP).map(|record| (*node, record))
        })
        .collect()
}

fn say(text: &str) {
    println!("  {text}");
}

/// An event on the harness's clock, relative to a fault.
fn relative(event: &Event, at: Nanos) -> f64 {
    clock::between_ms(at, event.at)
}
