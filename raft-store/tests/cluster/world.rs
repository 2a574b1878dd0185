//! Three replicas, the network between them, and what can be done to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lockstep_model::command::{Change, Command};
use lockstep_model::ids::{GroupId, LogIndex, NodeId};
use lockstep_model::intent::{GroupSpec, NodeRole, NodeSpec};
use lockstep_model::state::{Applied, State};
use lockstep_proto::raft::v1 as pb;
use lockstep_raft_store::commit::CommitMode;
use lockstep_raft_store::config::Compaction;
use lockstep_raft_store::error::Refused;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::layout::{ClusterId, DataDir, Identity};
use lockstep_raft_store::observer::{LogObserver, Observed};
use lockstep_raft_store::replica::{LocalError, Replica, ReplicaOptions};
use lockstep_raft_store::state_machine::Published;
use lockstep_raft_store::transport::{LinkError, Transport};
use lockstep_raft_store::{Metrics, Role};
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use tokio::sync::watch;

/// One way through the network.
const HOP: Duration = Duration::from_micros(300);

/// Virtual time that any condition may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Virtual time between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

pub(crate) fn address(id: u64) -> SocketAddr {
    ([10, 9, 0, id as u8], 7400).into()
}

#[derive(Default)]
struct Mesh {
    listening: HashMap<SocketAddr, Arc<Replica<SimRuntime>>>,
    cut: HashSet<SocketAddr>,
}

#[derive(Clone)]
struct MemoryTransport {
    from: SocketAddr,
    mesh: Arc<Mutex<Mesh>>,
}

impl MemoryTransport {
    async fn call<T, F>(
        &self,
        to: SocketAddr,
        call: impl FnOnce(Arc<Replica<SimRuntime>>) -> F + Send,
    ) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, Refused>> + Send,
    {
        SimRuntime::sleep(HOP).await;
        let peer = self.peer(to)?;
        let answer = call(peer).await;
        SimRuntime::sleep(HOP).await;
        // The way back may have been cut meanwhile: the other side has done it, and nobody here knows.
        self.peer(to)?;
        answer.map_err(|e| LinkError::Refused(e.to_string()))
    }

    fn peer(&self, to: SocketAddr) -> Result<Arc<Replica<SimRuntime>>, LinkError> {
        let mesh = self.mesh.lock().expect("no panic holds the mesh");
        if mesh.cut.contains(&to) || mesh.cut.contains(&self.from) {
            return Err(LinkError::Broken("cut".into()));
        }
        mesh.listening.get(&to).cloned().ok_or_else(|| LinkError::Unreachable("nobody listens".into()))
    }
}

impl Transport for MemoryTransport {
    async fn append_entries(
        &self,
        to: SocketAddr,
        message: pb::AppendEntriesRequest,
    ) -> Result<pb::AppendEntriesResponse, LinkError> {
        self.call(to, |peer| async move { peer.on_append_entries(message).await }).await
    }

    async fn vote(&self, to: SocketAddr, message: pb::VoteRequest) -> Result<pb::VoteResponse, LinkError> {
        self.call(to, |peer| async move { peer.on_vote(message).await }).await
    }

    async fn pre_vote(
        &self,
        to: SocketAddr,
        message: pb::VoteRequest,
    ) -> Result<pb::VoteResponse, LinkError> {
        self.call(to, |peer| async move { peer.on_pre_vote(message).await }).await
    }

    async fn transfer_leader(
        &self,
        to: SocketAddr,
        message: pb::TransferLeaderRequest,
    ) -> Result<pb::TransferLeaderResponse, LinkError> {
        self.call(to, |peer| async move { peer.on_transfer_leader(message).await }).await
    }

    async fn install_snapshot(
        &self,
        to: SocketAddr,
        header: pb::SnapshotHeader,
        data: Bytes,
    ) -> Result<pb::InstallSnapshotResponse, LinkError> {
        self.call(to, |peer| async move { peer.on_install_snapshot(header, data).await }).await
    }
}

/// Keeps what the lease voter would know.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<(u64, Observed)>>);

impl Recorder {
    pub(crate) fn epochs(&self) -> Vec<u64> {
        let seen = self.0.lock().expect("no panic holds it");
        let epoch = |observed: &Observed| match observed {
            Observed::Assignment { epoch, .. } => Some(epoch.get()),
            Observed::Edit { .. } | Observed::Membership { .. } => None,
        };
        seen.iter().filter_map(|(_, observed)| epoch(observed)).collect()
    }

    pub(crate) fn membership(&self) -> Option<Observed> {
        let seen = self.0.lock().expect("no panic holds it");
        seen.iter().rev().map(|(_, o)| o).find(|o| matches!(o, Observed::Membership { .. })).cloned()
    }
}

impl LogObserver for Recorder {
    fn appended(&self, index: u64, observed: &Observed) {
        self.0.lock().expect("no panic holds it").push((index, observed.clone()));
    }

    fn truncated(&self, after: Option<u64>) {
        self.0
            .lock()
            .expect("no panic holds it")
            .retain(|(index, _)| after.is_some_and(|after| *index <= after));
    }
}

pub(crate) struct Node {
    pub(crate) fs: SimFs,
    pub(crate) replica: Arc<Replica<SimRuntime>>,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) observer: Arc<Recorder>,
    /// Holds the lock, as the daemon does.
    _dir: DataDir,
}

pub(crate) struct World {
    mesh: Arc<Mutex<Mesh>>,
    pub(crate) nodes: BTreeMap<u64, Node>,
    compaction: Compaction,
}

impl World {
    pub(crate) async fn new(compaction: Compaction) -> World {
        let mut world = World { mesh: Arc::default(), nodes: BTreeMap::new(), compaction };
        for id in 1..=3 {
            world.start(id, SimFs::new()).await;
        }
        let members = (1..=3).map(|id| (NodeId(id), address(id))).collect();
        world.nodes[&1].replica.initialise(&members).await.expect("a first membership");
        world.leader().await;
        world
    }

    pub(crate) async fn start(&mut self, id: u64, fs: SimFs) {
        let identity =
            Identity { cluster_name: "edge".into(), cluster_id: ClusterId([9; 16]), node: NodeId(id) };
        let dir = DataDir::open(Arc::new(fs.clone()), Path::new("data")).expect("a data directory");
        let transport = MemoryTransport { from: address(id), mesh: self.mesh.clone() };
        let options =
            ReplicaOptions { mode: CommitMode::Inline, segment_bytes: 4096, compaction: self.compaction };
        let (sender, published) = watch::channel(Published::default());
        let observer = Arc::new(Recorder::default());
        let replica = Replica::open(options, identity, &dir, transport, observer.clone(), sender).await;
        let replica = Arc::new(replica.unwrap_or_else(|e| panic!("node {id}: {e}")));
        self.mesh.lock().expect("free").listening.insert(address(id), replica.clone());
        self.nodes.insert(id, Node { fs, replica, published, observer, _dir: dir });
    }

    /// The machine loses power. The disk stays.
    pub(crate) async fn power_cut(&mut self, id: u64, seed: u64) -> SimFs {
        let node = self.nodes.remove(&id).expect("a running node");
        self.mesh.lock().expect("free").listening.remove(&address(id));
        node.fs.crash(seed);
        node.replica.shutdown().await;
        node.fs
    }

    pub(crate) fn cut(&self, id: u64) {
        self.mesh.lock().expect("free").cut.insert(address(id));
    }

    pub(crate) fn heal(&self) {
        self.mesh.lock().expect("free").cut.clear();
    }

    /// The one node that leads in the highest term, once a majority agrees on it.
    pub(crate) async fn leader(&self) -> u64 {
        let mut leader = 0;
        self.until("a leader that a majority knows", |world| {
            let cut = world.mesh.lock().expect("free").cut.clone();
            let connected = world.nodes.iter().filter(|(id, _)| !cut.contains(&address(**id)));
            let known: Vec<_> =
                connected.map(|(_, n)| n.replica.metrics().leader.map_or(0, NodeId::get)).collect();
            leader = known.first().copied().unwrap_or(0);
            let leads = world.nodes.get(&leader).is_some_and(|n| n.replica.metrics().role == Role::Leader);
            leads && !cut.contains(&address(leader)) && known.iter().all(|l| *l == leader) && known.len() >= 2
        })
        .await;
        leader
    }

    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&World) -> bool) {
        let mut waited = Duration::ZERO;
        while !condition(self) {
            assert!(waited < PATIENCE, "{what}: not within {PATIENCE:?}; {:?}", self.metrics());
            SimRuntime::sleep(POLL).await;
            waited += POLL;
        }
    }

    pub(crate) async fn write(&self, command: Command) -> LogIndex {
        loop {
            let leader = self.leader().await;
            match self.nodes[&leader].replica.write(command.clone()).await {
                Ok((_, Applied::Refused(refusal))) => panic!("{command:?}: {refusal}"),
                Ok((index, _)) => return index,
                // It was deposed in between, or no majority has confirmed it yet; nothing happened.
                Err(LocalError::NotLeader { .. }) => SimRuntime::sleep(POLL).await,
                Err(e) => panic!("{command:?}: {e}"),
            }
        }
    }

    /// Makes a group; its id.
    pub(crate) async fn write_group(&self, i: u64) -> GroupId {
        self.write(group(i)).await;
        let leader = self.leader().await;
        let state = self.nodes[&leader].published.borrow().state.clone();
        let made = state.groups.iter().find(|(_, g)| g.spec.name == format!("g{i}"));
        *made.expect("the leader has applied what it acknowledged").0
    }

    pub(crate) async fn same_everywhere(&self) -> Arc<State> {
        let leader = self.leader().await;
        let index = self.nodes[&leader].replica.read_index().await.expect("a leader with a majority");
        self.until("all nodes apply all", |world| {
            world.nodes.values().all(|n| n.published.borrow().applied >= Some(index))
        })
        .await;
        let states: Vec<Arc<State>> =
            self.nodes.values().map(|n| n.published.borrow().state.clone()).collect();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "nodes disagree: {states:?}");
        states[0].clone()
    }

    pub(crate) fn metrics(&self) -> Vec<Metrics> {
        self.nodes.values().map(|n| n.replica.metrics()).collect()
    }
}

pub(crate) fn group(i: u64) -> Command {
    let spec = GroupSpec {
        name: format!("g{i}"),
        addresses: Vec::new(),
        interfaces: Vec::new(),
        nodes: Vec::new(),
        standbys: 1,
        failback: false,
    };
    Command::Change { expected: None, changes: vec![Change::UpsertGroup(spec)] }
}

pub(crate) fn register(id: u64) -> Command {
    let (cluster_address, lease_address) = (address(id), address(id));
    let spec = NodeSpec { name: format!("n{id}"), role: NodeRole::Dataplane, cluster_address, lease_address };
    Command::RegisterNode { id: NodeId(id), spec }
}

pub(crate) fn names(state: &State) -> Vec<String> {
    state.groups.values().map(|g| g.spec.name.clone()).collect()
}

pub(crate) fn expected(groups: std::ops::Range<u64>) -> Vec<String> {
    groups.map(|i| format!("g{i}")).collect()
}

pub(crate) fn simulate<T>(seed: u64, work: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(seed).block_on(work)
}
