//! A node's configuration file: read once, checked once, before a socket or a program is touched.
//!
//! Every key can be overridden by an environment variable `LOCKSTEP_SECTION__KEY`, whose value is read as
//! TOML and, if it is not valid TOML, as a plain string.

mod check;
mod environment;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lockstep_model::intent::NodeRole;
use serde::Deserialize;

use crate::routing::Target;

pub(crate) use check::Problem;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) cluster: Cluster,
    pub(crate) lease: Lease,
    #[serde(default)]
    pub(crate) sync: Sync,
    /// Required for `role = "dataplane"`, refused for a witness.
    pub(crate) dataplane: Option<Dataplane>,
    #[serde(default)]
    pub(crate) api: Api,
    #[serde(default)]
    pub(crate) metrics: Metrics,
    #[serde(default)]
    pub(crate) routing: Routing,
    #[serde(default)]
    pub(crate) tls: Tls,
    #[serde(default)]
    pub(crate) log: Log,
}

/// `[node]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// Unique in the cluster; 1-63 of `a-z 0-9 -`. The certificate must carry it as a DNS name.
    pub(crate) name: String,
    pub(crate) role: NodeRole,
    /// Raft log, snapshots and identity. Created if missing.
    pub(crate) data_dir: PathBuf,
}

/// `[cluster]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// Every node of a cluster names the same cluster.
    pub(crate) name: String,
    /// gRPC between nodes.
    pub(crate) listen: SocketAddr,
    /// The other nodes' `listen`; used by `cluster init`.
    #[serde(default)]
    pub(crate) peers: Vec<SocketAddr>,
    /// 32 bytes, mode 0600: keys the lease datagrams' MAC.
    pub(crate) secret_file: PathBuf,
}

/// `[lease]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    /// UDP. The lease's duration is cluster intent.
    pub(crate) listen: SocketAddr,
}

/// `[sync]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sync {
    /// gRPC between data-plane nodes: flow replication. Default: the address of `cluster.listen`, and its port plus two.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[dataplane]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dataplane {
    /// 1-32 interfaces.
    pub(crate) interfaces: Vec<Interface>,
    /// Connections; each takes two map entries. 1024 to 16777216, default 1048576.
    #[serde(default = "default_max_flows")]
    pub(crate) max_flows: u32,
    /// A directory on a bpf file system. Default `/sys/fs/bpf/lockstep`.
    #[serde(default = "default_pin_dir")]
    pub(crate) pin_dir: PathBuf,
}

/// An interface of `[dataplane]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) hook: Hook,
}

/// Where packets of the interface meet the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hook {
    /// XDP where the driver has it and packets come off a wire, else tc.
    #[default]
    Auto,
    /// XDP in the driver, in front of tc.
    Xdp,
    /// XDP in the network stack, in front of tc. For tests.
    XdpGeneric,
    /// tc ingress (tcx).
    Tc,
}

/// `[api]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Api {
    /// gRPC: admin and inspect. Default `127.0.0.1:7443`.
    #[serde(default = "default_api")]
    pub(crate) listen: SocketAddr,
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    /// HTTP: /metrics, /healthz, /readyz. Default `127.0.0.1:9430`.
    #[serde(default = "default_metrics")]
    pub(crate) listen: SocketAddr,
}

/// `[routing]`: see [`crate::routing`]. Refused for a witness, which never owns anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Routing {
    /// An executable that is told when this node begins or ceases to own a group. Default none.
    pub(crate) hook: Option<PathBuf>,
    /// A Unix socket that is told instead. Default none.
    pub(crate) socket: Option<PathBuf>,
}

impl Routing {
    /// Who is told: one of both at most.
    pub(crate) fn target(&self) -> Option<Target> {
        let program = self.hook.clone().map(Target::Program);
        program.or_else(|| self.socket.clone().map(Target::Socket))
    }
}

/// `[tls]`: PEM files. Required when a gRPC listener is beyond loopback.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Speak plain text beyond loopback: anyone who reaches the port then controls the cluster.
    #[serde(default)]
    pub(crate) allow_plaintext: bool,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// `error`, `warn`, `info` (default), `debug` or `trace`, or a filter like `info,lockstep_node=debug`.
    #[serde(default = "default_level")]
    pub(crate) level: String,
    #[serde(default)]
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

fn default_max_flows() -> u32 {
    1 << 20
}

fn default_pin_dir() -> PathBuf {
    PathBuf::from("/sys/fs/bpf/lockstep")
}

fn default_api() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7443))
}

fn default_metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9430))
}

fn default_level() -> String {
    "info".to_owned()
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: default_api() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: default_metrics() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: default_level(), format: LogFormat::default() }
    }
}

/// From `cluster.listen` to where replication listens, unless `[sync]` says otherwise.
const SYNC_PORT_OFFSET: u16 = 2;

impl Config {
    /// Where replication listens.
    pub(crate) fn sync_listen(&self) -> SocketAddr {
        let cluster = self.cluster.listen;
        let default = SocketAddr::new(cluster.ip(), cluster.port().saturating_add(SYNC_PORT_OFFSET));
        self.sync.listen.unwrap_or(default)
    }

    /// Reads and checks `path` with the process's environment.
    pub(crate) fn load(path: &Path) -> Result<Self, Problem> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Problem::file(path, format!("cannot be read: {e}")))?;
        Self::parse(path, &text, std::env::vars())
    }

    /// Reads and checks `text`; `path` only names it in errors.
    pub(crate) fn parse(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Problem> {
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| Problem::file(path, e.to_string()))?;
        environment::overlay(&mut table, variables);
        let config: Config = serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|e| {
            let message = e.inner().to_string();
            Problem::at(path, &e.path().to_string(), message.trim())
        })?;
        check::check(path, &config)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
