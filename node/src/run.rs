//! A node's life: open, listen, join, serve, drain, end.
//!
//! ```text
//! open data dir and dataplane ─► listen ─► (cluster init) ─► member: lease thread, replication ─► SIGTERM: drain ─► end
//! ```
//!
//! Whatever fails before "listen" ends the process with the reason; afterwards it is reported and retried.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_proto::sync::v1::sync_server::SyncServer;
use lockstep_raft_store::fs::real::RealFs;
use lockstep_raft_store::{Departure, RaftConfig, RaftNode};
use lockstep_sync_transport::MAX_UP_BYTES;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::late_sync::LateSync;
use crate::member;
use crate::parts::Parts;
use crate::tls::{self, Tls};
use crate::{api, dataplane, health, links, metrics, reconcile, relay, routing, serve};

/// Threads of the main runtime: APIs, reconciler. Leases, Raft and replication have their own.
const WORKERS: usize = 2;

/// Why a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop.
    Stopped,
    /// The process is to start over, as another node than it was.
    Departed(Departure),
}

/// Runs the node until it is told to stop, or has left its cluster.
pub(crate) fn run(config: Config) -> Result<End> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("node")
        .enable_all()
        .build()
        .context("the async runtime cannot be started")?;
    let outcome = runtime.block_on(node(config));
    // Threads that wait for the kernel or a peer do not hold the process back.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

async fn node(config: Config) -> Result<End> {
    let tls = Tls::load(&config.tls)?;
    let secret = tls::read_secret(&config.cluster.secret_file)?;
    let mut stop = Stop::listen()?;
    // Before the data directory: a build that cannot go on with this node's kernel leaves both as they are.
    if let Some(wanted) = &config.dataplane {
        dataplane::check(wanted)?;
    }

    if let Some(parent) = config.node.data_dir.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("node.data_dir: {} cannot be made", parent.display()))?;
    }
    let log = Arc::new(relay::Relay::default());
    let raft_config = RaftConfig {
        cluster_name: config.cluster.name.clone(),
        address: config.cluster.listen,
        peers: config.cluster.peers.clone(),
        data_dir: config.node.data_dir.clone(),
        options: lockstep_raft_store::replica::ReplicaOptions::default(),
    };
    let raft = RaftNode::start(raft_config, Arc::new(RealFs), Arc::new(tls.clone()), log.clone())
        .await
        // The error names the path and its cause itself.
        .map_err(|error| anyhow::anyhow!("node.data_dir: {error}"))?;

    let (programmed, programmed_watch) = watch::channel(reconcile::Programmed::default());
    let dataplane = match &config.dataplane {
        None => None,
        Some(wanted) => {
            let loader = dataplane::open(wanted)?;
            tracing::info!(adopted = loader.adopted(), "dataplane attached");
            let names = wanted.interfaces.iter().map(|interface| interface.name.clone()).collect();
            let down = links::watch(names).await?;
            Some(dataplane::Handle::new(wanted.clone(), loader, programmed_watch, down)?)
        }
    };
    let routing = config.routing.target().map(routing::Hook::start).transpose()?;
    let parts = Arc::new(Parts::new(config, raft, dataplane, routing));

    let late_sync = LateSync::default();
    serve_cluster(&parts, &tls, late_sync.clone()).await?;
    let listener = match &parts.dataplane {
        Some(_) => Some(listen_for_sync(&parts.config)?),
        None => None,
    };
    metrics::serve(parts.config.metrics.listen, parts.clone()).await?;
    let (stop_api, api_stopped) = watch::channel(false);
    let api = api::serve(parts.config.api.listen, &tls, parts.clone(), stopped(api_stopped)).await?;
    tracing::info!(node = parts.config.node.name, api = %parts.config.api.listen, "listening");

    let member = member::Start { parts: parts.clone(), tls, secret, late_sync, listener, log, programmed };
    let outcome = tokio::select! {
        outcome = member.run() => outcome.map(|()| End::Stopped),
        reason = stop.wait() => {
            tracing::info!(reason, "stopping");
            member::drain(&parts).await;
            Ok(End::Stopped)
        }
        departure = parts.raft.departed() => {
            if let Some(lease) = parts.lease() {
                lease.stop();
            }
            Ok(End::Departed(departure))
        }
    };
    if let Some(dataplane) = &parts.dataplane {
        dataplane.hops.stop();
    }
    let end = outcome?;
    stop_api.send_replace(true);
    match end {
        End::Stopped | End::Departed(Departure::Refounded) => parts.raft.shutdown().await,
        End::Departed(Departure::Left) => parts.raft.forget().await?,
    }
    // Connections that do not end by themselves are not waited for.
    drop(tokio::time::timeout(Duration::from_millis(200), api).await);
    tracing::info!(?end, "stopped");
    Ok(end)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone: stop as well.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Bound before the node belongs to a cluster, so that a port that is taken ends the process at once. Whoever connects that
/// early waits in its queue.
fn listen_for_sync(config: &Config) -> Result<std::net::TcpListener> {
    let listen = config.sync_listen();
    let bound = std::net::TcpListener::bind(listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.with_context(|| format!("sync.listen: {listen} cannot be bound"))
}

/// What nodes say to each other, on Raft's own runtime.
async fn serve_cluster(parts: &Arc<Parts>, tls: &Tls, sync: LateSync) -> Result<()> {
    let listen = parts.config.cluster.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cluster.listen: {listen} cannot be bound"))?;
    let listener = listener.into_std().context("cluster.listen")?;
    let router = tls
        .server(listen)?
        .add_service(parts.raft.raft_server())
        .add_service(parts.raft.cluster_server())
        .add_service(health::Service::server(parts.clone()))
        .add_service(SyncServer::new(sync).max_decoding_message_size(MAX_UP_BYTES));
    const END: &str = "the cluster listener ended: peers cannot reach this node";
    serve::start(parts.raft.runtime(), listener, router, END);
    Ok(())
}

/// The signals that end the daemon.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be handled");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
