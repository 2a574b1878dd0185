//! Nodes over real gRPC on the loopback interface, with real files.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::command::{Change, Command};
use lockstep_model::intent::{GroupSpec, NodeRole, NodeSpec};
use lockstep_raft_store::fs::SharedFs;
use lockstep_raft_store::fs::real::RealFs;
use lockstep_raft_store::guard::NoGuard;
use lockstep_raft_store::observer::{LogObserver, NoObserver};
use lockstep_raft_store::replica::ReplicaOptions;
use lockstep_raft_store::{Metrics, PlainConnector, RaftConfig, RaftError, RaftNode};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) struct Daemon {
    pub(crate) node: RaftNode,
    pub(crate) address: SocketAddr,
    pub(crate) server: JoinHandle<()>,
}

impl Daemon {
    pub(crate) async fn start(
        cluster: &str,
        listener: TcpListener,
        peers: &[SocketAddr],
        data: &Path,
    ) -> Result<Self, RaftError> {
        Self::with(ReplicaOptions::default(), cluster, listener, peers, data).await
    }

    pub(crate) async fn with(
        options: ReplicaOptions,
        cluster: &str,
        listener: TcpListener,
        peers: &[SocketAddr],
        data: &Path,
    ) -> Result<Self, RaftError> {
        Self::on(Arc::new(RealFs), Arc::new(NoObserver), options, cluster, listener, peers, data).await
    }

    pub(crate) async fn on(
        fs: SharedFs,
        observer: Arc<dyn LogObserver>,
        options: ReplicaOptions,
        cluster: &str,
        listener: TcpListener,
        peers: &[SocketAddr],
        data: &Path,
    ) -> Result<Self, RaftError> {
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = RaftConfig {
            cluster_name: cluster.to_owned(),
            address,
            peers: peers.to_vec(),
            data_dir: data.to_owned(),
            options,
        };
        let node = RaftNode::start(config, fs, Arc::new(PlainConnector), observer).await?;
        let (raft, cluster) = (node.raft_server(), node.cluster_server());
        let serve = tonic::transport::Server::builder()
            .add_service(raft)
            .add_service(cluster)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        let server =
            node.runtime().spawn(async move { serve.await.expect("the server runs until it is aborted") });
        Ok(Daemon { node, address, server })
    }

    /// Registers itself, and answers the leader's questions before it changes the membership.
    pub(crate) async fn settle(&self, name: &str) {
        self.node.set_guard(Arc::new(NoGuard));
        self.node.register(spec(name, self.address)).await.expect("a node registers itself");
    }

    pub(crate) async fn stop(self) {
        self.server.abort();
        self.node.shutdown().await;
    }

    pub(crate) async fn until(&self, what: &str, condition: impl FnMut(&Metrics) -> bool) {
        let mut metrics = self.node.watch_metrics();
        let reached = tokio::time::timeout(Duration::from_secs(10), metrics.wait_for(condition)).await;
        reached.unwrap_or_else(|_| panic!("{what}: not within 10 s")).expect("the node lives");
    }
}

pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

pub(crate) struct Cluster {
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) dir: TempDir,
}

pub(crate) async fn three(names: [&str; 3]) -> Cluster {
    three_with(names, ReplicaOptions::default()).await
}

pub(crate) async fn three_with(names: [&str; 3], options: ReplicaOptions) -> Cluster {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let listeners = [listener().await, listener().await, listener().await];
    let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
    let mut daemons = Vec::new();
    for (i, listener) in listeners.into_iter().enumerate() {
        let data = dir.path().join(i.to_string());
        let daemon = Daemon::with(options, names[i], listener, &addresses, &data).await;
        daemons.push(daemon.expect("an empty node starts"));
    }
    Cluster { daemons, dir }
}

pub(crate) fn group(name: &str) -> Command {
    let spec = GroupSpec {
        name: name.to_owned(),
        addresses: Vec::new(),
        interfaces: Vec::new(),
        nodes: Vec::new(),
        standbys: 1,
        failback: false,
    };
    Command::Change { expected: None, changes: vec![Change::UpsertGroup(spec)] }
}

pub(crate) fn spec(name: &str, address: SocketAddr) -> NodeSpec {
    NodeSpec {
        name: name.to_owned(),
        role: NodeRole::Dataplane,
        cluster_address: address,
        lease_address: address,
    }
}

/// The port may still be in use by a connection that is closing.
pub(crate) async fn rebind(address: SocketAddr) -> TcpListener {
    let bind = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), bind).await.expect("the port becomes free")
}

/// The lock is given back when the last user of the old node is gone, which shutting down does not wait for.
pub(crate) async fn open_again(
    options: ReplicaOptions,
    listener: TcpListener,
    peers: &[SocketAddr],
    data: &Path,
) -> Daemon {
    until_free(&data.join("lock")).await;
    Daemon::with(options, "edge", listener, peers, data).await.expect("a node starts from its data")
}

/// Waits until nobody holds the lock.
pub(crate) async fn until_free(lock: &Path) {
    let free = async {
        loop {
            let file = std::fs::File::open(lock).expect("a lock file");
            if file.try_lock().is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("the old node is gone");
}
