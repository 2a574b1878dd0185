//! What a node does as a member of a cluster: holds and gives leases, replicates flows, and keeps the parts
//! told of each other's news.

mod announcements;
mod events;
mod guard;
mod sink;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_model::ids::{Epoch, LogIndex, NodeId, ServiceId};
use lockstep_model::intent::{NodeRole, NodeSpec};
use lockstep_model::state::State;
use lockstep_raft_store::Role;
use lockstep_sync_core::Replicas;
use lockstep_sync_transport::{Identity as SyncIdentity, RECORD_VERSIONS};
use tokio::sync::{mpsc, watch};

use crate::late_sync::LateSync;
use crate::parts::{Member, Parts};
use crate::relay::Relay;
use crate::tls::Tls;
use crate::{fitness, health, lease, ports, reconcile, sync};

/// How often the node's own status is looked at, for what nothing announces (replication, programs detached by
/// others). What is announced is told at once.
const STATUS_PERIOD: Duration = Duration::from_millis(50);
/// How long a node that stops waits for others to take its groups over.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it then waits for the voters to acknowledge that it has given everything back.
const SURRENDER_TIMEOUT: Duration = Duration::from_secs(1);

/// What membership starts from.
pub(crate) struct Start {
    pub(crate) parts: Arc<Parts>,
    pub(crate) tls: Tls,
    pub(crate) secret: [u8; 32],
    pub(crate) late_sync: LateSync,
    /// For replication; absent on a witness.
    pub(crate) listener: Option<std::net::TcpListener>,
    pub(crate) log: Arc<Relay>,
    pub(crate) programmed: watch::Sender<reconcile::Programmed>,
}

impl Start {
    /// Waits for the cluster to be formed, then serves in it. Returns only with a reason to end the process.
    pub(crate) async fn run(self) -> Result<()> {
        let Self { parts, tls, secret, late_sync, listener, log, programmed } = self;
        if parts.raft.identity().is_none() {
            tracing::info!("no cluster yet: waiting for `lockstep cluster init`");
        }
        let identity = parts.raft.joined().await;
        let node = identity.node;
        tracing::info!(cluster = %identity.cluster_id, node_id = %node, "member of a cluster");

        let last_log = parts.raft.found();
        let mut kept = None;
        let sync = match &parts.dataplane {
            None => None,
            Some(dataplane) => {
                let loader = dataplane.loader.lock().expect("no holder panics");
                // Counted, not walked: what flows belong to is not known before the first pass of the reconciler.
                let flows = match dataplane.adopted {
                    true => {
                        loader.flows().count().context("the flows that the kernel kept cannot be counted")?
                    }
                    false => 0,
                };
                kept = (flows > 0).then_some(last_log);
                let listen = parts.config.sync_listen();
                let (sync, service) = sync::Sync::start(sync::Parts {
                    listener: listener.context("a data-plane node listens for replication")?,
                    server: tls.server(listen)?,
                    identity: SyncIdentity { cluster: identity.cluster_id.0, node, records: RECORD_VERSIONS },
                    session: rand::random(),
                    connector: connector(&parts, &tls),
                    table: sync::KernelTable(loader.flows()),
                    events: loader.events().context("flow events cannot be read")?,
                    ager: loader.sweeper(),
                })?;
                late_sync.set(service, listen.port());
                Some(sync)
            }
        };

        let (events, event_queue) = mpsc::channel(lease::EVENT_QUEUE);
        let settings = lease::Settings {
            cluster: identity.cluster_id.0,
            node,
            listen: parts.config.lease.listen,
            secret,
            forgone: forgone(&parts, last_log),
        };
        let lease = lease::spawn(&settings, sink::sink(&parts, sync.clone()), events)
            .context("the lease thread cannot be started")?;
        log.attach(lease.clone());
        let member = Member { lease, sync, since: Instant::now(), kept };
        assert!(parts.member.set(member).is_ok(), "a node becomes a member once");
        parts.raft.set_guard(Arc::new(guard::Guard { parts: parts.clone() }));

        tokio::spawn(register(parts.clone()));
        tokio::spawn(follow_state(parts.clone(), node));
        tokio::spawn(follow_leadership(parts.clone()));
        if let Some(dataplane) = &parts.dataplane {
            let states = parts.raft.watch();
            tokio::spawn(announcements::run(parts.clone(), dataplane.watch_programmed()));
            tokio::spawn(announcements::refresh(parts.clone()));
            tokio::spawn(reconcile::run(
                node,
                states,
                dataplane.loader.clone(),
                dataplane.watch_down(),
                programmed,
            ));
        }
        tokio::spawn(report_status(parts.clone()));
        tokio::spawn(ports::run(parts.clone()));
        health::start(&parts, node, &tls)?;
        // A task of its own: a node that stops still flushes what it hands over, when nobody waits here any more.
        tokio::spawn(events::run(parts, event_queue)).await.context("the lease thread's events")?;
        anyhow::bail!("the lease thread ended")
    }
}

/// What was assigned to this node before its kernel's maps were made: flows of it are elsewhere, if anywhere. Nothing is
/// assigned to a node that does not report, which this run has not begun yet.
fn forgone(parts: &Parts, last_log: LogIndex) -> Epoch {
    match &parts.dataplane {
        Some(dataplane) if !dataplane.adopted => Epoch(last_log.get()),
        _ => Epoch(0),
    }
}

/// How replication reaches a peer: where the agreed state says it listens.
fn connector(parts: &Arc<Parts>, tls: &Tls) -> lockstep_sync_transport::Connector {
    let (parts, tls) = (parts.clone(), tls.clone());
    Arc::new(move |peer: NodeId, port: Option<NonZeroU16>| {
        let state = parts.raft.stale();
        let spec = state.nodes.get(&peer).ok_or_else(|| format!("node {peer} is not registered"))?;
        let mut address = spec.cluster_address;
        address.set_port(port.map_or(address.port(), NonZeroU16::get));
        tls.endpoint(address).map_err(|e| e.to_string())
    })
}

async fn register(parts: Arc<Parts>) {
    if let Err(refusal) = parts.raft.register(parts.spec()).await {
        tracing::error!(%refusal, "the cluster refuses this node's registration: it takes no part; check its configuration");
    }
}

/// Tells lease thread and replication of every applied state.
async fn follow_state(parts: Arc<Parts>, me: NodeId) {
    let mut states = parts.raft.watch();
    loop {
        let published = states.borrow_and_update().clone();
        if let Some(member) = parts.member.get() {
            let (applied, state) = (published.applied.unwrap_or(LogIndex(0)), &published.state);
            // Before the lease thread gives anything away: no successor may serve while this node still says, as the owner that
            // it was, that it holds all flows.
            tell_status(&parts);
            if let Some(hook) = &parts.routing {
                hook.know(state.groups.iter().map(|(id, group)| (*id, group.spec.name.clone())).collect());
            }
            if let Some(sync) = &member.sync {
                sync.set_peers(peers(state, me));
                sync.set_groups(applied, epochs(state), replicas(state));
                sync.set_ages(ages(state));
            }
            member.lease.applied(applied, state);
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

fn epochs(state: &State) -> BTreeMap<lockstep_model::ids::GroupId, Epoch> {
    state.groups.iter().map(|(id, group)| (*id, group.assignment.map_or(Epoch(0), |a| a.epoch))).collect()
}

fn replicas(state: &State) -> Replicas {
    state.groups.iter().map(|(id, group)| (*id, group.replicas.clone())).collect()
}

/// How long flows live before they are replicated, where a service's policy says so.
fn ages(state: &State) -> BTreeMap<ServiceId, Duration> {
    state.services.iter().filter_map(|(id, service)| Some((*id, service.spec.sync.age()?))).collect()
}

fn peers(state: &State, me: NodeId) -> BTreeSet<NodeId> {
    let carries = |spec: &NodeSpec| spec.role == NodeRole::Dataplane;
    state.nodes.iter().filter(|(id, spec)| **id != me && carries(spec)).map(|(id, _)| *id).collect()
}

async fn follow_leadership(parts: Arc<Parts>) {
    let mut metrics = parts.raft.watch_metrics();
    loop {
        let (leads, leader) = {
            let now = metrics.borrow_and_update();
            (now.role == Role::Leader, now.leader)
        };
        if let Some(lease) = parts.lease() {
            lease.leadership(leads, leader);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the lease thread, and through it the leader, how this node could serve.
async fn report_status(parts: Arc<Parts>) {
    let mut news = parts.dataplane.as_ref().map(|dataplane| dataplane.news());
    loop {
        tell_status(&parts);
        match &mut news {
            Some(news) => tokio::select! {
                () = news.changed() => {}
                () = tokio::time::sleep(STATUS_PERIOD) => {}
            },
            None => tokio::time::sleep(STATUS_PERIOD).await,
        }
    }
}

fn tell_status(parts: &Parts) {
    let Some(member) = parts.member.get() else { return };
    let status = match (&parts.dataplane, &member.sync) {
        (Some(dataplane), Some(sync)) => {
            let state = parts.raft.stale();
            let (programmed, down) = (dataplane.programmed(), dataplane.down());
            let draining = parts.gives_away(&state);
            let cut_off = parts.health.cut_off();
            let inputs = fitness::Inputs {
                me: parts.raft.identity().map_or(NodeId(0), |identity| identity.node),
                state: &state,
                programmed: &programmed,
                down: &down,
                cut_off: &cut_off,
                draining,
                disk_full: parts.raft.disk_full().is_some(),
                kept: member.kept,
            };
            fitness::status(&inputs, |group| sync.group_sync(group))
        }
        _ => lockstep_ownership::status::LocalStatus { draining: parts.is_draining(), ..Default::default() },
    };
    member.lease.status(status);
}

/// Gives every group to another node, as far as there is one, and the rest back to the voters. A sole voter
/// keeps its lease: its kernel goes on serving without the daemon (I12).
pub(crate) async fn drain(parts: &Arc<Parts>) {
    let Some(member) = parts.member.get() else { return };
    if parts.raft.stale().nodes.len() <= 1 && parts.raft.metrics().voters.len() <= 1 {
        tracing::info!("the only node stops: its kernel goes on forwarding");
        return;
    }
    if !hand_over(parts).await {
        tracing::warn!("no other node took the groups over in time: giving them back to the voters");
        member.lease.surrender();
        if !idle(&member.lease, SURRENDER_TIMEOUT).await {
            tracing::warn!("not every voter acknowledged: what is left of the leases runs out by itself");
        }
    }
    leave_leadership(parts).await;
    member.lease.stop();
}

/// Asks for its groups to be taken over; whether it owns nothing then.
pub(crate) async fn hand_over(parts: &Arc<Parts>) -> bool {
    let Some(lease) = parts.lease() else { return true };
    parts.drain(true);
    tell_status(parts);
    idle(lease, DRAIN_TIMEOUT).await
}

/// It stays after all.
pub(crate) fn stay(parts: &Arc<Parts>) {
    parts.drain(false);
    tell_status(parts);
}

/// A leader that stops hands over first: the others need no election, which would take half a second.
pub(crate) async fn leave_leadership(parts: &Parts) {
    let metrics = parts.raft.metrics();
    if metrics.role != Role::Leader {
        return;
    }
    let state = parts.raft.stale();
    let owns = |node: NodeId| state.groups.values().any(|g| g.assignment.is_some_and(|a| a.node == node));
    let others = metrics.voters.iter().copied().filter(|voter| Some(*voter) != metrics.leader);
    // Rather one that owns nothing, and the most up to date of those.
    let next = others.max_by_key(|voter| (!owns(*voter), metrics.matched.get(voter).copied().flatten()));
    let Some(next) = next else { return };
    if let Err(error) = parts.raft.transfer_leader(next).await {
        tracing::warn!(%error, "leadership was not handed over: the others elect a leader");
        return;
    }
    let mut metrics = parts.raft.watch_metrics();
    let moved = metrics.wait_for(|now| now.role != Role::Leader);
    if tokio::time::timeout(SURRENDER_TIMEOUT, moved).await.is_err() {
        tracing::warn!("leadership was not taken over in time: the others elect a leader");
    }
}

/// Whether the lease thread came to hold nothing, within `timeout`.
async fn idle(lease: &lease::Handle, timeout: Duration) -> bool {
    const LOOK: Duration = Duration::from_millis(2);
    let idle = async {
        while !lease.snapshot().idle {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(timeout, idle).await.is_ok()
}
