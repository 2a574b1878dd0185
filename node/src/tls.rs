//! Mutual TLS from certificate files, read once at start: what listens beyond loopback presents this node's
//! certificate and demands one that the same authority signed; what connects does the same the other way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::config;

/// How long a peer may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A dead peer is noticed after these two, on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The node's certificates; empty when plain text was asked for.
#[derive(Clone)]
pub(crate) struct Tls {
    material: Option<Material>,
}

#[derive(Clone)]
struct Material {
    ca: Certificate,
    identity: Identity,
}

impl Tls {
    /// Reads the files that `[tls]` names.
    pub(crate) fn load(config: &config::Tls) -> Result<Self> {
        let (Some(ca), Some(cert), Some(key)) = (&config.ca, &config.cert, &config.key) else {
            return Ok(Self { material: None });
        };
        let ca = Certificate::from_pem(read("tls.ca", ca)?);
        let identity = Identity::from_pem(read("tls.cert", cert)?, read("tls.key", key)?);
        Ok(Self { material: Some(Material { ca, identity }) })
    }

    /// A server for `listen`: with TLS unless it is loopback or plain text was allowed.
    pub(crate) fn server(&self, listen: SocketAddr) -> Result<Server> {
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
        match &self.material {
            Some(material) if !listen.ip().is_loopback() => server
                .tls_config(
                    ServerTlsConfig::new()
                        .identity(material.identity.clone())
                        .client_ca_root(material.ca.clone()),
                )
                .context("[tls]: ca, cert or key is not usable"),
            _ => Ok(server),
        }
    }

    /// How to reach `peer`. The peer's certificate must carry its IP address.
    pub(crate) fn endpoint(&self, peer: SocketAddr) -> Result<Endpoint, tonic::transport::Error> {
        let scheme = if self.covers(peer) { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{peer}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        match &self.material {
            Some(material) if self.covers(peer) => endpoint.tls_config(
                ClientTlsConfig::new()
                    .ca_certificate(material.ca.clone())
                    .identity(material.identity.clone()),
            ),
            _ => Ok(endpoint),
        }
    }

    fn covers(&self, address: SocketAddr) -> bool {
        self.material.is_some() && !address.ip().is_loopback()
    }
}

fn read(key: &str, path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{key}: {} cannot be read", Path::display(path)))
}

/// The 32 bytes that key the lease datagrams' MAC.
pub(crate) fn read_secret(path: &Path) -> Result<[u8; 32]> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let metadata =
        std::fs::metadata(path).with_context(|| format!("cluster.secret_file: {shown} cannot be read"))?;
    let mode = metadata.permissions().mode() & 0o777;
    anyhow::ensure!(
        mode & 0o077 == 0,
        "cluster.secret_file: {shown} has mode {mode:04o}; allowed: 0600 (run `chmod 600 {shown}`)"
    );
    let bytes =
        std::fs::read(path).with_context(|| format!("cluster.secret_file: {shown} cannot be read"))?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| {
        anyhow::anyhow!("cluster.secret_file: {shown} has {length} bytes; allowed: exactly 32 random bytes")
    })
}

impl lockstep_raft_store::Connector for Tls {
    fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, tonic::transport::Error> {
        Tls::endpoint(self, address)
    }
}
