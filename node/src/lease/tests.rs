//! Three lease threads in one process, over loopback, with kernels of paper and a Raft of one line.

use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId, Revision};
use lockstep_model::intent::{GroupSpec, NodeRole, NodeSpec};
use lockstep_model::state::{self, Group, State};
use lockstep_ownership::failover::FailoverRecord;
use lockstep_ownership::leader::Cause;
use lockstep_ownership::log::LogEvent;
use lockstep_ownership::membership::{LogId, Membership};
use lockstep_ownership::message::Tenure;
use lockstep_ownership::status::{Candidacy, Flows, LocalStatus};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use super::realtime::Processors;
use super::{Event, Handle, KernelUntil, LeaseSink, NotInKernel, Settings, thread};

const GROUP: GroupId = GroupId(2);
/// Far longer than anything takes; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(20);

fn monotonic() -> u64 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_nanos() as u64
}

/// Every write into one node's kernel: when, and until when the group is served after it.
#[derive(Default)]
struct PaperKernel {
    writes: Mutex<Vec<(u64, Epoch, u64)>>,
    /// It holds a lease without an end, of an earlier run.
    endless: AtomicBool,
    /// How often it was asked.
    asked: AtomicU64,
}

impl LeaseSink for PaperKernel {
    fn before_open(&self, _: &[Tenure], _: Duration) {}

    fn set(&self, tenure: Tenure, until: KernelUntil) -> Result<(), NotInKernel> {
        let KernelUntil::At(until) = until else { panic!("three voters, and no bound") };
        self.writes.lock().unwrap().push((monotonic(), tenure.epoch, until));
        Ok(())
    }

    fn close(&self, tenure: Tenure) -> Result<(), NotInKernel> {
        self.writes.lock().unwrap().push((monotonic(), tenure.epoch, 0));
        Ok(())
    }

    fn is_bounded(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        !self.endless.load(Ordering::SeqCst)
    }

    fn announce(&self, _: Tenure) -> bool {
        true
    }

    fn wait_grace_period(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Node {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    /// What came while something else was waited for: between two nodes there is no order.
    earlier: Vec<Event>,
    kernel: Arc<PaperKernel>,
}

struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    state: State,
    index: u64,
}

impl Cluster {
    fn new() -> Self {
        Self::with(thread::start)
    }

    /// Each node started by `start`.
    fn with(
        start: impl Fn(&Settings, UdpSocket, Arc<dyn LeaseSink>, mpsc::Sender<Event>) -> anyhow::Result<Handle>,
    ) -> Self {
        let sockets: BTreeMap<NodeId, UdpSocket> =
            (1..=3).map(|id| (NodeId(id), UdpSocket::bind("127.0.0.1:0").unwrap())).collect();
        let mut state = State::default();
        for (id, socket) in &sockets {
            socket.set_nonblocking(true).unwrap();
            let address = socket.local_addr().unwrap();
            let role = if id.get() == 3 { NodeRole::Witness } else { NodeRole::Dataplane };
            let name = format!("n{id}");
            state
                .nodes
                .insert(*id, NodeSpec { name, role, cluster_address: address, lease_address: address });
        }
        let spec = GroupSpec {
            name: "edge".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            interfaces: Vec::new(),
            nodes: vec!["n1".to_owned(), "n2".to_owned()],
            standbys: 1,
            failback: false,
        };
        state.groups.insert(
            GROUP,
            Group { spec, assignment: None, replicas: BTreeMap::new(), revision: Revision(2) },
        );
        let nodes = sockets.into_iter().map(|(id, socket)| {
            let kernel = Arc::new(PaperKernel::default());
            let (send, events) = mpsc::channel(super::EVENT_QUEUE);
            let listen = socket.local_addr().unwrap();
            let settings =
                Settings { cluster: [9; 16], node: id, listen, secret: [4; 32], forgone: Epoch(0) };
            let handle = start(&settings, socket, kernel.clone(), send).unwrap();
            let id_of_membership = LogId { term: 1, leader: NodeId(3), index: LogIndex(1) };
            let configs = vec![(1..=3).map(NodeId).collect()];
            handle.log(LogEvent::Membership(Membership { id: id_of_membership, configs }));
            handle.applied(LogIndex(2), &state);
            (id, Node { handle, events, earlier: Vec::new(), kernel })
        });
        Cluster { nodes: nodes.collect(), state, index: 2 }
    }

    fn fit(&self, id: u64, draining: bool) {
        let candidacies = vec![Candidacy { group: GROUP, fitness: Ok(()), flows: Flows::CaughtUp }];
        self.node(id).handle.status(LocalStatus { draining, candidacies });
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[&NodeId(id)]
    }

    fn assign(&mut self, replaces: Epoch, node: NodeId) {
        self.index += 1;
        let index = LogIndex(self.index);
        state::apply(&mut self.state, index, &Command::Assign { group: GROUP, replaces, node });
        for node_of in self.nodes.values() {
            node_of.handle.log(LogEvent::Assign { index, group: GROUP, replaces, node });
            node_of.handle.applied(index, &self.state);
        }
    }

    /// As many nodes hold the flows as are to.
    async fn replicated(&mut self) {
        let proposed = self.until(3, |e| matches!(e, Event::SetReplicas { .. })).await;
        let Event::SetReplicas { group, epoch, replaces, nodes } = proposed else { unreachable!() };
        self.index += 1;
        let index = LogIndex(self.index);
        state::apply(&mut self.state, index, &Command::SetReplicas { group, epoch, replaces, nodes });
        self.nodes.values().for_each(|node| node.handle.applied(index, &self.state));
    }

    /// Carries out what the threads ask for until `wanted` has come from node `id`.
    async fn until(&mut self, id: u64, wanted: impl Fn(&Event) -> bool) -> Event {
        let earlier = &mut self.nodes.get_mut(&NodeId(id)).unwrap().earlier;
        if let Some(at) = earlier.iter().position(&wanted) {
            return earlier.drain(..=at).next_back().unwrap();
        }
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                for from in [1, 2, 3] {
                    let node = self.nodes.get_mut(&NodeId(from)).unwrap();
                    let event = tokio::time::timeout(Duration::from_millis(2), node.events.recv()).await;
                    let Ok(Some(event)) = event else { continue };
                    if from == id && wanted(&event) {
                        return event;
                    }
                    match event {
                        Event::Flush { tenure, .. } => self.node(from).handle.flushed(tenure),
                        Event::Assign { replaces, node, .. } => self.assign(replaces, node),
                        other => self.nodes.get_mut(&NodeId(from)).unwrap().earlier.push(other),
                    }
                }
            }
        });
        match found.await {
            Ok(event) => event,
            Err(_) => panic!("node {id} said nothing of the kind: {:#?}", self.node(id).handle.snapshot()),
        }
    }

    /// I3, over all kernels: who is served by whom, when, does not overlap.
    fn assert_single_owner(&self) {
        let mut spans: Vec<(u64, u64, u64)> = Vec::new();
        for (id, node) in &self.nodes {
            let writes = node.kernel.writes.lock().unwrap();
            for (i, (at, _, until)) in writes.iter().enumerate() {
                let replaced = writes.get(i + 1).map_or(u64::MAX, |(next, _, _)| *next);
                if *until > *at {
                    spans.push((*at, (*until).min(replaced), id.get()));
                }
            }
        }
        spans.sort_unstable();
        assert!(!spans.is_empty(), "nobody served");
        for pair in spans.windows(2) {
            assert!(pair[0].2 == pair[1].2 || pair[0].1 <= pair[1].0, "overlap: {pair:?}");
        }
    }

    /// The record of the takeover by this node, which is shown a little later than it opens.
    async fn failover(&self, id: u64) -> FailoverRecord {
        let shown = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(record) = self.node(id).handle.failovers().front() {
                    return *record;
                }
                tokio::task::yield_now().await;
            }
        });
        shown.await.expect("a takeover is shown")
    }

    /// Waits for a counter, which is shown a little later than it counts.
    async fn until_counter(&self, id: u64, name: &str, value: u64) {
        let shown = || {
            let snapshot = self.node(id).handle.snapshot();
            snapshot
                .counters
                .iter()
                .chain(&snapshot.leader_counters)
                .find(|(n, _)| n == name)
                .map(|(_, v)| *v)
        };
        let counted = tokio::time::timeout(DEADLINE, async {
            while shown() != Some(value) {
                tokio::task::yield_now().await;
            }
        });
        assert!(counted.await.is_ok(), "{name} is {:?} instead of {value}", shown());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.values().for_each(|n| n.handle.stop());
    }
}

fn opened(event: &Event) -> bool {
    matches!(event, Event::Opened(_))
}

/// A node whose lease thread stands on a processor that the kernel does not give up.
fn start_stuck(
    settings: &Settings,
    socket: UdpSocket,
    sink: Arc<dyn LeaseSink>,
    events: mpsc::Sender<Event>,
) -> anyhow::Result<Handle> {
    let (handle, turns) = thread::prepare(settings, socket, sink, events)?;
    let (_, one) = Processors::in_two_parts()?.expect("two processors");
    std::thread::spawn(move || turns.stand_in(&one));
    Ok(handle)
}

#[tokio::test]
async fn leases_are_granted_and_renewed_while_no_lease_thread_runs() {
    const RENEWALS: usize = 20;
    let mut cluster = Cluster::with(start_stuck);
    cluster.assign(Epoch(0), NodeId(1));
    cluster.until(1, opened).await;
    let kernel = cluster.node(1).kernel.clone();
    let renewed = async {
        while kernel.writes.lock().unwrap().len() < RENEWALS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, renewed).await.expect("the stand-ins renew the lease");
}

#[tokio::test]
async fn i3_single_owner_of_a_group_that_is_handed_over() {
    let mut cluster = Cluster::new();
    cluster.assign(Epoch(0), NodeId(1));
    let Event::Opened(first) = cluster.until(1, opened).await else { unreachable!() };
    assert_eq!(first.epoch, Epoch(3));

    cluster.assign(first.epoch, NodeId(2));
    let Event::Opened(second) = cluster.until(2, opened).await else { unreachable!() };
    cluster.until(1, |e| *e == Event::Idle).await;
    assert_eq!(second.epoch, Epoch(4));
    cluster.assert_single_owner();
    let record = cluster.failover(2).await;
    assert_eq!((record.tenure, record.replaces, record.owner_before), (second, first.epoch, Some(NodeId(1))));
    assert!(record.promised.is_some() && record.map_written.is_some() && record.announced.is_some());
    assert_eq!(record.suspected, None, "it was never silent");
}

#[tokio::test]
async fn i3_single_owner_when_an_owner_falls_silent() {
    let mut cluster = Cluster::new();
    cluster.fit(1, false);
    cluster.fit(2, false);
    cluster.node(3).handle.leadership(true, Some(NodeId(3)));
    cluster.until(1, opened).await;

    cluster.replicated().await;
    cluster.node(1).handle.stop();
    let assigned = cluster.until(3, |e| matches!(e, Event::Assign { .. })).await;
    let Event::Assign { replaces, node, cause, .. } = assigned else { unreachable!() };
    assert_eq!((node, cause), (NodeId(2), Cause::NotHeard));
    cluster.assign(replaces, node);
    cluster.until(2, opened).await;
    cluster.assert_single_owner();
    let record = cluster.failover(2).await;
    let (renewed, suspected) = (record.last_renewal.unwrap(), record.suspected.unwrap());
    assert!(renewed < suspected && suspected < record.committed && Some(record.committed) < record.promised);
    cluster.until_counter(3, "assignments_not_heard", 1).await;
    cluster.until_counter(3, "takeover_without_flows", 0).await;
}

#[tokio::test]
async fn a_draining_owner_hands_over_and_a_stranger_is_not_heard() {
    let mut cluster = Cluster::new();
    cluster.fit(1, false);
    cluster.fit(2, false);
    cluster.node(3).handle.leadership(true, Some(NodeId(3)));
    cluster.until(1, opened).await;

    // Not made with the secret, not even a datagram of ours.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[0xff; 100], cluster.state.nodes[&NodeId(1)].lease_address).unwrap();

    cluster.fit(1, true);
    cluster.until(2, opened).await;
    cluster.until(1, |e| *e == Event::Idle).await;
    cluster.assert_single_owner();
    cluster.until_counter(1, "dropped_malformed", 1).await;
    cluster.until_counter(3, "assignments_owner_draining", 1).await;
}

#[tokio::test]
async fn i3_single_owner_growth_waits_for_the_kernel_and_not_for_the_machine_alone() {
    let cluster = Cluster::new();
    let node = cluster.node(1);
    node.kernel.endless.store(true, Ordering::SeqCst);
    // This run has no lease without an end; the kernel, which outlived an earlier one, has.
    let mut bounded = node.handle.prepare_growth();
    let asked = async {
        while node.kernel.asked.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("the kernel is looked at again and again");
    assert!(bounded.try_recv().is_err(), "answered while the kernel holds a lease without an end");
    node.kernel.endless.store(false, Ordering::SeqCst);
    tokio::time::timeout(DEADLINE, bounded).await.expect("answered in time").expect("the thread lives");
}
