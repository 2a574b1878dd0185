//! A node with a table in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockstep_loader::KernelInstant;
use lockstep_model::flow::{
    FlowChange, FlowKey, FlowKind, FlowOp, FlowRecord, FlowStamp, FlowState, FlowVersion, WriteOutcome,
};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, LogIndex, NodeId, ServiceId};
use lockstep_model::protocol::Protocol;
use lockstep_sync_transport::{Connector, Identity, RECORD_VERSIONS};
use tonic::transport::{Endpoint, Server};

use crate::sync::table::{AuditPage, Held, Unmentioned};
use crate::sync::{Ager, Events, Parts, Sync, Table};

pub(super) const GROUP: GroupId = GroupId(7);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

struct Entry {
    record: FlowRecord,
    stamp: FlowStamp,
    mark: u32,
}

struct Inner {
    entries: BTreeMap<FlowKey, Entry>,
    ring: VecDeque<(FlowChange, Epoch)>,
    lost: u32,
    expired: Vec<FlowChange>,
    clock: u64,
    limit: usize,
    /// Whether the reader is to be told of the next change in the ring buffer.
    asleep: bool,
    wake: UnixStream,
}

/// Table, ring buffer and sweeper.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<Inner>>);

struct Ring {
    memory: Memory,
    woken: UnixStream,
}

fn key(number: u64) -> FlowKey {
    let client = Ipv4Addr::from(0xc633_6400 + (number >> 12) as u32);
    FlowKey {
        client: SocketAddr::new(client.into(), 1024 + (number & 0xfff) as u16),
        service: "192.0.2.10:443".parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

impl Memory {
    fn new() -> (Self, Ring) {
        let (wake, woken) = UnixStream::pair().unwrap();
        wake.set_nonblocking(true).unwrap();
        woken.set_nonblocking(true).unwrap();
        let inner = Inner {
            entries: BTreeMap::new(),
            ring: VecDeque::new(),
            lost: 0,
            expired: Vec::new(),
            clock: 0,
            limit: usize::MAX,
            asleep: false,
            wake,
        };
        let memory = Self(Arc::new(Mutex::new(inner)));
        (memory.clone(), Ring { memory, woken })
    }

    fn change(&self, number: u64, epoch: Epoch) -> FlowChange {
        let mut inner = self.0.lock().unwrap();
        inner.clock += 1;
        let (key, clock) = (key(number), inner.clock);
        let held = inner.entries.get(&key).map(|entry| (entry.stamp.version, entry.mark));
        let (version, mark) = match held {
            Some((version, mark)) => (FlowVersion { n: version.n + 1, ..version }, mark),
            None => (FlowVersion { birth: clock, n: 0 }, 0),
        };
        let record = FlowRecord {
            key,
            group: GROUP,
            service: ServiceId(9),
            endpoint: EndpointId(number % 3),
            endpoint_address: "10.0.0.11:8443".parse().unwrap(),
            source: None,
            kind: FlowKind::Nat,
            version,
            state: FlowState::Established,
            state_bits: 1,
            remaining: Duration::from_secs(60),
        };
        let stamp = FlowStamp { epoch, version };
        inner.entries.insert(key, Entry { record: record.clone(), stamp, mark });
        FlowChange::Upsert(record)
    }

    /// A packet that makes the flow or changes its state.
    pub(super) fn packet(&self, number: u64, epoch: Epoch) {
        let change = self.change(number, epoch);
        let mut inner = self.0.lock().unwrap();
        inner.ring.push_back((change, epoch));
        if inner.asleep {
            // A full pipe has a wake-up in it.
            let _full = inner.wake.write(&[0]);
        }
    }

    /// The same, but the ring buffer had no room.
    pub(super) fn packet_unreported(&self, number: u64, epoch: Epoch) {
        let change = self.change(number, epoch);
        self.0.lock().unwrap().lost |= 1 << change.key().shard();
    }

    pub(super) fn expire(&self, number: u64) {
        let mut inner = self.0.lock().unwrap();
        let entry = inner.entries.remove(&key(number)).unwrap();
        inner.expired.push(FlowChange::Remove {
            key: key(number),
            group: GROUP,
            version: entry.stamp.version,
        });
    }

    /// Behind the daemon's back: another endpoint for one flow, nothing for another, and a third that nobody made.
    pub(super) fn plant(&self, changed: u64, missing: u64, extra: u64) {
        let made = self.change(extra, Epoch(10));
        let mut inner = self.0.lock().unwrap();
        assert!(inner.entries.contains_key(made.key()));
        inner.entries.get_mut(&key(changed)).unwrap().record.endpoint = EndpointId(99);
        inner.entries.remove(&key(missing)).unwrap();
    }

    /// Who reads or writes waits until what is returned is dropped. Something is there to be read.
    pub(super) fn hold(&self, number: u64, epoch: Epoch) -> impl Drop + use<'_> {
        let change = self.change(number, epoch);
        let mut inner = self.0.lock().unwrap();
        inner.ring.push_back((change, epoch));
        let _full = inner.wake.write(&[0]);
        inner
    }

    pub(super) fn limit(&self, entries: usize) {
        self.0.lock().unwrap().limit = entries;
    }

    pub(super) fn content(&self) -> BTreeMap<FlowKey, (EndpointId, FlowVersion)> {
        let inner = self.0.lock().unwrap();
        inner.entries.iter().map(|(key, e)| (*key, (e.record.endpoint, e.record.version))).collect()
    }
}

impl Table for Memory {
    type Cursor = FlowKey;

    fn write(&self, ops: &[FlowOp]) -> Vec<WriteOutcome> {
        let mut inner = self.0.lock().unwrap();
        let inner = &mut *inner;
        let write = |op: &FlowOp| {
            let key = *op.change.key();
            let held = inner.entries.get_mut(&key);
            if !op.supersedes(held.as_ref().map(|held| held.stamp)) {
                if let Some(held) = held {
                    held.mark = op.mark;
                }
                return WriteOutcome::Stale;
            }
            match &op.change {
                FlowChange::Upsert(_) if held.is_none() && inner.entries.len() >= inner.limit => {
                    WriteOutcome::Full
                }
                FlowChange::Upsert(record) => {
                    let entry = Entry { record: record.clone(), stamp: op.stamp(), mark: op.mark };
                    inner.entries.insert(key, entry);
                    WriteOutcome::Applied
                }
                FlowChange::Remove { .. } => {
                    inner.entries.remove(&key);
                    WriteOutcome::Applied
                }
            }
        };
        ops.iter().map(write).collect()
    }

    fn page(
        &self,
        cursor: Option<FlowKey>,
        max: usize,
    ) -> anyhow::Result<(Vec<FlowRecord>, Option<FlowKey>)> {
        let inner = self.0.lock().unwrap();
        let rest = inner.entries.iter().filter(|(key, _)| cursor.is_none_or(|cursor| **key > cursor));
        let page: Vec<_> = rest.take(max).map(|(_, entry)| entry.record.clone()).collect();
        let next = (page.len() == max).then(|| page[max - 1].key);
        Ok((page, next))
    }

    fn share(&self, _: FlowKey) -> f64 {
        0.5
    }

    fn audit_page(
        &self,
        cursor: Option<FlowKey>,
        max: usize,
        _whole: bool,
    ) -> anyhow::Result<AuditPage<FlowKey>> {
        let (records, next) = self.page(cursor, max)?;
        let held = |record| Held { record, replicated: true, early: false };
        Ok(AuditPage { held: records.into_iter().map(held).collect(), dead: Vec::new(), next })
    }

    fn sweep(&self, of: &[Unmentioned]) -> anyhow::Result<Vec<u64>> {
        let mut inner = self.0.lock().unwrap();
        let one = |of: &Unmentioned| {
            assert_eq!(of.group, GROUP);
            let before = inner.entries.len();
            inner
                .entries
                .retain(|key, e| key.shard() != of.shard || e.mark == of.mark || e.stamp.epoch > of.epoch);
            (before - inner.entries.len()) as u64
        };
        Ok(of.iter().map(one).collect())
    }
}

impl Events for Ring {
    fn descriptor(&self) -> io::Result<OwnedFd> {
        self.woken.try_clone().map(OwnedFd::from)
    }

    fn sleep(&mut self) -> anyhow::Result<bool> {
        Ok(!std::mem::replace(&mut self.memory.0.lock().unwrap().asleep, true))
    }

    fn drain(&mut self, max: usize, each: &mut dyn FnMut(FlowChange, Epoch, KernelInstant)) -> usize {
        let mut bytes = [0; 4096];
        while matches!(self.woken.read(&mut bytes), Ok(count) if count > 0) {}
        let mut inner = self.memory.0.lock().unwrap();
        let count = inner.ring.len().min(max);
        inner.ring.drain(..count).for_each(|(change, epoch)| each(change, epoch, KernelInstant::now()));
        inner.asleep &= count == 0;
        count
    }

    fn take_lost(&mut self) -> anyhow::Result<u32> {
        Ok(std::mem::take(&mut self.memory.0.lock().unwrap().lost))
    }

    fn totals(&self) -> (u64, u64) {
        (0, 0)
    }
}

impl Ager for Memory {
    fn step(&mut self, _budget: usize) -> anyhow::Result<Vec<FlowChange>> {
        Ok(std::mem::take(&mut self.0.lock().unwrap().expired))
    }
}

/// One node.
pub(super) struct Node {
    pub(super) table: Memory,
    pub(super) sync: Sync,
}

impl Node {
    fn start(id: NodeId, listener: TcpListener, peer_address: SocketAddr) -> Self {
        let (table, ring) = Memory::new();
        let connector: Connector = Arc::new(move |_, _| {
            Endpoint::from_shared(format!("http://{peer_address}"))
                .map(|endpoint| endpoint.tcp_nodelay(true))
                .map_err(|error| error.to_string())
        });
        let parts = Parts {
            identity: Identity { cluster: [1; 16], node: id, records: RECORD_VERSIONS },
            session: [id.get() as u8; 16],
            listener,
            server: Server::builder(),
            connector,
            table: table.clone(),
            events: ring,
            ager: table.clone(),
        };
        let (sync, _service) = Sync::start(parts).unwrap();
        Self { table, sync }
    }

    /// Takes the group over, as the lease thread does.
    pub(super) fn own(&self, epoch: Epoch) {
        let deadline = Instant::now() + Duration::from_secs(5);
        assert!(self.sync.before_open(GROUP, epoch, deadline));
    }

    pub(super) fn close(&self, epoch: Epoch) {
        self.sync.closed(GROUP, epoch);
    }
}

/// Two nodes.
pub(super) struct Pair {
    pub(super) a: Node,
    pub(super) b: Node,
}

impl Pair {
    pub(super) fn start() -> Self {
        let pair = Self::apart();
        pair.join();
        pair
    }

    /// They do not know each other yet.
    pub(super) fn apart() -> Self {
        let listeners = [listener(), listener()];
        let [address_a, address_b] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let [listener_a, listener_b] = listeners;
        let (a, b) = (Node::start(A, listener_a, address_b), Node::start(B, listener_b, address_a));
        Self { a, b }
    }

    pub(super) fn join(&self) {
        for (node, peer) in [(&self.a, B), (&self.b, A)] {
            node.sync.set_peers(BTreeSet::from([peer]));
            let both = [(A, LogIndex(1)), (B, LogIndex(1))];
            node.sync.set_groups(LogIndex(1), [(GROUP, Epoch(0))].into(), [(GROUP, both.into())].into());
        }
    }

    /// A counter of the first node.
    pub(super) fn counter(&self, name: &str) -> u64 {
        self.a.counter(name)
    }
}

impl Node {
    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.sync.counters();
        counters.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no counter {name}")).1
    }
}

fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
