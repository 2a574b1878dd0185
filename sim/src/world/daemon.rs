//! A daemon's life: it starts, hears news, does what its participant wants, and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_ownership::identity::Identity;
use lockstep_ownership::message::Message;
use lockstep_ownership::participant::{Output, Participant};
use lockstep_ownership::status::{Candidacy, Flows, LocalStatus};
use lockstep_ownership::time::Instant;
use lockstep_ownership::view::View;
use lockstep_raft_store::Role;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::config::Compaction;
use lockstep_raft_store::layout::{ClusterId, DataDir, Identity as StoreIdentity};
use lockstep_raft_store::replica::{Replica, ReplicaOptions};
use lockstep_raft_store::state_machine::Published;
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use tokio::sync::watch;

use super::{Event, MS, ROLE_PERIOD_NS, World};
use crate::net::now_ns;
use crate::net::wire::Wire;
use crate::node::{Daemon, News, Observer};

/// What a kernel's lease check may lag by; the lease is shortened by it.
pub(super) const CLOCK_STEP: Duration = Duration::from_micros(100);
/// Snapshots are made and logs purged often, so that short schedules see both.
const COMPACTION: Compaction = Compaction { snapshot_every: 24, kept_entries: 6 };
const SEGMENT_BYTES: u64 = 4096;
/// True time that never comes.
const NEVER_NS: u64 = u64::MAX / 4;
/// What is to be flushed takes up to this.
const FLUSH_NS: u64 = 20 * MS;
/// A grace period takes up to this.
const GRACE_NS: u64 = 3 * MS;
/// How often it is looked whether news still do not get through.
const HELD_POLL_NS: u64 = 20 * MS;
/// A lease waits up to this for what is queued to be applied.
const PREPARE_NS: u64 = 5 * MS;

impl World {
    /// Starts a node's daemon, unless it runs; if its last run still ends, later.
    pub(crate) async fn start(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.daemon.is_some() {
            return;
        }
        if node.ending.as_ref().is_some_and(|ended| !ended.load(Ordering::Relaxed)) {
            return self.after(MS, Event::Start { node: id });
        }
        node.ending = None;
        node.run += 1;
        node.me.incarnation += 1;
        node.inbox.clear();
        let (run, me, disk) = (node.run, node.me, node.disk.clone());
        self.net.note(format_args!("node {id} starts run {run}"));
        let now = node.clock.local(now_ns());
        let net = self.net.clone();
        let opened = async {
            let dir = DataDir::open(Arc::new(disk), Path::new("data"))?;
            let identity =
                StoreIdentity { cluster_name: "sim".into(), cluster_id: ClusterId([9; 16]), node: id };
            let options = ReplicaOptions {
                mode: CommitMode::Inline,
                segment_bytes: SEGMENT_BYTES,
                compaction: COMPACTION,
            };
            let wire = Wire { from: id, run, net: net.clone() };
            let observer = Arc::new(Observer { node: id, run, net: net.clone() });
            let (sender, receiver) = watch::channel(Published::default());
            let replica = Replica::open(options, identity, &dir, wire, observer, sender).await?;
            Ok::<_, lockstep_raft_store::error::StoreError>((dir, replica, receiver))
        };
        let (dir, replica, receiver) = match opened.await {
            Ok(opened) => opened,
            Err(e) => return self.oracle.violate(format!("I1: node {id} cannot open its store: {e}")),
        };
        let replica = Arc::new(replica);
        drop(SimRuntime::spawn(follow(self.net.clone(), id, run, receiver)));
        self.net.lock().connect(id, run, replica.clone());
        let daemon = Daemon {
            participant: Participant::new(now, me, CLOCK_STEP),
            replica,
            published: Published::default(),
            opening: BTreeMap::new(),
            prepared_ns: 0,
            written: BTreeSet::new(),
            moves: BTreeMap::new(),
            leads: false,
            leader: None,
            draining: false,
            timer_at_ns: NEVER_NS,
            dir,
        };
        self.nodes.get_mut(&id).expect("it was there above").daemon = Some(daemon);
        self.set_timer(id);
    }

    /// Ends a node's daemon at once; the kernel goes on. `power`: the whole machine, with what its disk has
    /// not synced, and what its kernel knew.
    pub(crate) fn stop(&mut self, id: NodeId, power: bool) {
        let chance = self.rng.draw();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if power {
            node.disk.crash(chance);
            node.kernel = crate::node::Kernel::default();
            node.me.boot.0[1] += 1;
            node.me.incarnation = 0;
            node.paused_until_ns = 0;
        }
        let Some(daemon) = node.daemon.take() else { return };
        self.net.note(format_args!("node {id} ends, power {power}"));
        let Daemon { replica, dir, .. } = daemon;
        self.net.lock().disconnect(id);
        let ended = Arc::new(AtomicBool::new(false));
        node.ending = Some(ended.clone());
        drop(SimRuntime::spawn(async move {
            replica.shutdown().await;
            drop(replica);
            drop(dir);
            ended.store(true, Ordering::Relaxed);
        }));
    }

    /// Stops a node's daemon for a time, as SIGSTOP does.
    pub(crate) fn pause(&mut self, id: NodeId, until_ns: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.paused_until_ns = until_ns;
        self.net.lock().pause(id, until_ns);
        self.net.note(format_args!("node {id} pauses until {until_ns}"));
        self.at(until_ns, Event::Wake { node: id });
    }

    /// A node gives its groups away, or may have some again.
    pub(crate) fn drain(&mut self, id: NodeId, draining: bool) {
        if let Some(daemon) = self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut()) {
            daemon.draining = draining;
        }
        self.tell_status(id);
    }

    // --- news -------------------------------------------------------------------------------------------

    pub(super) fn take_news(&mut self) {
        loop {
            let Some((id, run, news)) = self.net.lock().news.pop_front() else { return };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            if node.run == run {
                node.inbox.push_back(news);
                self.read_inbox(id);
            }
        }
    }

    /// The log comes before whatever else a daemon does.
    pub(super) fn read_inbox(&mut self, id: NodeId) {
        loop {
            let Some(node) = self.nodes.get_mut(&id) else { return };
            if node.paused_until_ns > now_ns() || node.daemon.is_none() {
                return;
            }
            let Some(news) = node.inbox.pop_front() else { return };
            match news {
                News::Log(event) => {
                    self.net.note(format_args!("node {id} {event:?}"));
                    self.with_daemon(id, |participant, now| participant.handle_log(now, event));
                }
                News::Published(published) => self.published(id, published),
            }
        }
    }

    fn published(&mut self, id: NodeId, published: Published) {
        let applied = published.applied.unwrap_or(LogIndex(0));
        self.net.note(format_args!("node {id} applied {applied}"));
        self.oracle.note_state(id, &published);
        let view = View::of(applied, &published.state);
        if let Some(daemon) = self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut()) {
            daemon.published = published;
        }
        self.with_daemon(id, |participant, now| participant.handle_view(now, view));
        self.reconcile(id);
        self.tell_status(id);
    }

    fn tell_status(&mut self, id: NodeId) {
        let Some(daemon) = self.nodes.get(&id).and_then(|n| n.daemon.as_ref()) else { return };
        let can = |group| Candidacy { group, fitness: Ok(()), flows: Flows::CaughtUp };
        let candidacies = daemon.published.state.groups.keys().copied().map(can).collect();
        let status = LocalStatus { draining: daemon.draining, candidacies };
        self.with_daemon(id, |participant, now| participant.handle_status(now, status));
    }

    pub(super) fn look_at_roles(&mut self) {
        for id in self.ids() {
            let node = &self.nodes[&id];
            let Some(daemon) = node.daemon.as_ref().filter(|_| node.paused_until_ns <= now_ns()) else {
                continue;
            };
            let metrics = daemon.replica.metrics();
            if let Some(why) = metrics.stopped {
                self.oracle.violate(format!("Raft has stopped on node {id}: {why}"));
            }
            let (leads, leader) = (metrics.role == Role::Leader, metrics.leader);
            if leads != daemon.leads {
                self.net.note(format_args!("node {id} leads {leads}, term {}", metrics.term));
            }
            if (leads, leader) != (daemon.leads, daemon.leader) {
                let daemon = self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut());
                let daemon = daemon.expect("it was there above");
                (daemon.leads, daemon.leader) = (leads, leader);
                self.with_daemon(id, |participant, now| {
                    participant.handle_leader(now, leader);
                    participant.handle_leadership(now, leads);
                });
            }
        }
        self.after(ROLE_PERIOD_NS, Event::Roles);
    }

    // --- what a participant wants -----------------------------------------------------------------------

    pub(crate) fn with_daemon(&mut self, id: NodeId, f: impl FnOnce(&mut Participant, Instant)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(daemon) = node.daemon.as_mut() else { return };
        let me = node.me;
        f(&mut daemon.participant, node.clock.local(now_ns()));
        while let Some(output) =
            self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut()).and_then(|d| d.participant.poll_output())
        {
            self.carry_out(me, output);
        }
        self.set_timer(id);
    }

    pub(super) fn handle_timer(&mut self, id: NodeId) {
        self.set_timer_at(id, NEVER_NS);
        self.with_daemon(id, |participant, now| participant.handle_timeout(now));
    }

    pub(super) fn set_timer_at(&mut self, id: NodeId, at_ns: u64) {
        if let Some(daemon) = self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut()) {
            daemon.timer_at_ns = at_ns;
        }
    }

    fn set_timer(&mut self, id: NodeId) {
        // Now and then a thread is scheduled late.
        let late = if self.rng.percent(10) { self.rng.below(3 * MS) } else { 0 };
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (clock, run) = (node.clock, node.run);
        let Some(daemon) = node.daemon.as_mut() else { return };
        let Some(deadline) = daemon.participant.next_deadline() else { return };
        let at = clock.real(deadline).max(now_ns() + 1) + late;
        if at < daemon.timer_at_ns {
            daemon.timer_at_ns = at;
            self.at(at, Event::Timer { node: id, run });
        }
    }

    fn carry_out(&mut self, me: Identity, output: Output) {
        let id = me.node;
        let run = self.nodes[&id].run;
        match output {
            Output::Send { to, message } => {
                if !matches!(message, Message::Report(_)) {
                    self.net.note(format_args!("{id} -> {to} {message:?}"));
                }
                self.send(me, to, message);
            }
            Output::SetLease { tenure, until, .. } => {
                let Some(daemon) = self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut()) else { return };
                if daemon.written.contains(&tenure) {
                    self.write_lease(id, tenure, until);
                } else if daemon.opening.insert(tenure, until).is_none() {
                    // One thread prepares them, in their order.
                    let prepared = daemon.prepared_ns.max(now_ns() + self.rng.below(PREPARE_NS));
                    daemon.prepared_ns = prepared;
                    self.at(prepared, Event::Prepared { node: id, run, tenure });
                }
            }
            Output::CloseLease(tenure) => {
                let grace = self.rng.below(GRACE_NS);
                self.close_lease(id, tenure, now_ns() + grace);
                self.after(grace, Event::Closed { node: id, run, tenure });
            }
            Output::Flush { tenure, .. } => {
                let flushed = self.rng.below(FLUSH_NS);
                self.after(flushed, Event::Flushed { node: id, run, tenure });
            }
            Output::Assign { group, replaces, node, .. } => {
                self.propose(id, Command::Assign { group, replaces, node });
            }
            Output::SetReplicas { group, epoch, replaces, nodes } => {
                self.propose(id, Command::SetReplicas { group, epoch, replaces, nodes });
            }
            Output::TransferLeader(to) => {
                let Some(replica) = self.replica(id) else { return };
                // Refused when it does not lead any more; the leader tries again.
                drop(SimRuntime::spawn(async move { drop(replica.move_leader(to).await) }));
            }
            Output::Campaign { against } => {
                self.net.note(format_args!("node {id} campaigns against {against}"));
                let Some(replica) = self.replica(id) else { return };
                // Without effect when another leads meanwhile.
                drop(SimRuntime::spawn(async move { drop(replica.campaign(against).await) }));
            }
            Output::IntentStale(_) | Output::Failover(_) => {}
        }
    }

    pub(super) fn wire(&self, id: NodeId) -> Wire {
        Wire { from: id, run: self.nodes.get(&id).map_or(0, |n| n.run), net: self.net.clone() }
    }

    /// A proposal that nobody waits for: who made it looks at what is applied.
    pub(crate) fn propose(&mut self, id: NodeId, command: Command) {
        self.net.note(format_args!("node {id} proposes {command:?}"));
        let Some(replica) = self.replica(id) else { return };
        drop(SimRuntime::spawn(async move { drop(replica.write(command).await) }));
    }

    pub(crate) fn replica(&self, id: NodeId) -> Option<Arc<Replica<SimRuntime>>> {
        Some(self.nodes.get(&id)?.daemon.as_ref()?.replica.clone())
    }

    pub(super) fn open_lease(&mut self, id: NodeId, tenure: lockstep_ownership::message::Tenure) {
        let Some(daemon) = self.nodes.get_mut(&id).and_then(|n| n.daemon.as_mut()) else { return };
        let Some(until) = daemon.opening.remove(&tenure) else { return };
        if self.write_lease(id, tenure, until) {
            self.oracle.note_opened(id, tenure);
            self.with_daemon(id, |participant, now| participant.handle_map_written(now, tenure));
            self.with_daemon(id, |participant, now| participant.handle_announced(now, tenure, true));
        }
    }
}

/// Hands every applied state on, as soon as news of it get through.
async fn follow(
    net: crate::net::SharedNet,
    node: NodeId,
    run: u64,
    mut published: watch::Receiver<Published>,
) {
    loop {
        let held = net.lock().news_held_until(node).saturating_sub(now_ns());
        if held > 0 {
            // Looked at again meanwhile: a cluster that is healed does not wait.
            SimRuntime::sleep(Duration::from_nanos(held.min(HELD_POLL_NS))).await;
            continue;
        }
        let news = published.borrow_and_update().clone();
        net.tell(node, run, News::Published(news));
        if published.changed().await.is_err() {
            return;
        }
    }
}
