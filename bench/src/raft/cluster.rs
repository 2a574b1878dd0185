//! Nodes of one cluster in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lockstep_model::command::{Change, Command};
use lockstep_model::intent::GroupSpec;
use lockstep_model::state::Applied;
use lockstep_raft_store::fs::real::RealFs;
use lockstep_raft_store::guard::NoGuard;
use lockstep_raft_store::observer::NoObserver;
use lockstep_raft_store::replica::ReplicaOptions;
use lockstep_raft_store::{PlainConnector, RaftConfig, RaftNode, Role};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::Measured;

/// Pairs of addresses that measurements take in turn.
const PAIRS: u8 = 100;
/// How long a leader may take to be elected.
const ELECTION: Duration = Duration::from_secs(10);

/// The nodes; the first one leads.
pub(super) struct Cluster {
    nodes: Vec<RaftNode>,
    /// Measurements so far: each has addresses of its own, so that its first changes are some too.
    begun: AtomicU8,
}

/// What the leader's log has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) syncs: u64,
}

impl Log {
    pub(super) fn since(self, before: &Log) -> Log {
        Log {
            records: self.records - before.records,
            bytes: self.bytes - before.bytes,
            syncs: self.syncs - before.syncs,
        }
    }
}

impl Cluster {
    pub(super) async fn start(count: usize, dir: &Path) -> anyhow::Result<Cluster> {
        std::fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut listeners = Vec::new();
        for _ in 0..count {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.context("no free port")?);
        }
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let mut nodes = Vec::new();
        for (i, listener) in listeners.into_iter().enumerate() {
            nodes.push(start(listener, &addresses, &dir.join(i.to_string())).await?);
        }
        nodes[0].init().await.context("the nodes form no cluster")?;
        let cluster = Cluster { nodes, begun: AtomicU8::new(0) };
        cluster.lead_by_first().await?;
        Ok(cluster)
    }

    async fn lead_by_first(&self) -> anyhow::Result<()> {
        let first = &self.nodes[0];
        let id = first.joined().await.node;
        let mut metrics = first.watch_metrics();
        let elected = tokio::time::timeout(ELECTION, metrics.wait_for(|m| m.leader.is_some())).await;
        elected.context("no leader was elected")?.context("Raft has ended")?;
        first.transfer_leader(id).await.context("the first node does not get to lead")?;
        let leads = tokio::time::timeout(ELECTION, metrics.wait_for(|m| m.role == Role::Leader)).await;
        leads.context("the first node did not come to lead")?.context("Raft has ended")?;
        Ok(())
    }

    /// The leader's log so far.
    pub(super) fn log(&self) -> Log {
        let stats = self.nodes[0].wal_stats().expect("it belongs to a cluster");
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Log { records: read(&stats.records), bytes: read(&stats.bytes), syncs: read(&stats.syncs) }
    }

    /// `writers` change a group of their own each, one change after the other, through the leader.
    pub(super) async fn write(&self, writers: usize, length: Duration) -> anyhow::Result<Measured> {
        let pair = self.begun.fetch_add(1, Ordering::Relaxed) % PAIRS;
        let begun = Instant::now();
        let until = begun + length;
        let tasks: Vec<_> = (0..writers)
            .map(|writer| tokio::spawn(write(self.nodes[0].clone(), writer, pair, until)))
            .collect();
        let mut took = Vec::new();
        for task in tasks {
            took.append(&mut task.await.context("a writer panicked")??);
        }
        Ok(Measured { took, elapsed: begun.elapsed() })
    }

    pub(super) async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

async fn start(listener: TcpListener, peers: &[SocketAddr], data_dir: &Path) -> anyhow::Result<RaftNode> {
    let config = RaftConfig {
        cluster_name: "bench".to_owned(),
        address: listener.local_addr()?,
        peers: peers.to_vec(),
        data_dir: data_dir.to_owned(),
        options: ReplicaOptions::default(),
    };
    let node =
        RaftNode::start(config, Arc::new(RealFs), Arc::new(PlainConnector), Arc::new(NoObserver)).await?;
    node.set_guard(Arc::new(NoGuard));
    let server = tonic::transport::Server::builder()
        .add_service(node.raft_server())
        .add_service(node.cluster_server())
        .serve_with_incoming(TcpListenerStream::new(listener));
    node.runtime().spawn(async move {
        if let Err(error) = server.await {
            eprintln!("a node's listener ended: {error}");
        }
    });
    Ok(node)
}

async fn write(node: RaftNode, writer: usize, pair: u8, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for turn in 0_u32.. {
        let at = Instant::now();
        if at >= until {
            break;
        }
        match node.write(change(writer, pair, turn)).await? {
            Applied::Changed { .. } => took.push(at.elapsed()),
            other => bail!("writer {writer} was answered {other:?}"),
        }
    }
    Ok(took)
}

/// A small change that is one: what it says differs from what the group is.
fn change(writer: usize, pair: u8, turn: u32) -> Command {
    let host = 1 + 2 * pair + u8::from(turn % 2 == 1);
    let third = u8::try_from(writer).expect("there are at most 64 writers");
    let spec = GroupSpec {
        name: format!("writer-{writer}"),
        addresses: vec![Ipv4Addr::new(10, 0, third, host).into()],
        interfaces: Vec::new(),
        nodes: Vec::new(),
        standbys: 1,
        failback: false,
    };
    Command::Change { expected: None, changes: vec![Change::UpsertGroup(spec)] }
}
