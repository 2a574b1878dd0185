//! Raft's messages over gRPC.

pub(crate) mod client;
pub(crate) mod server;

use std::net::SocketAddr;

use tonic::transport::Endpoint;

/// How to reach another node's cluster listener. The node supplies it, because it knows the certificates.
pub trait Connector: Send + Sync + 'static {
    /// An endpoint with transport security as configured. Time limits and keep-alive are set by the caller.
    fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, tonic::transport::Error>;
}

/// Plain text: only where the configuration allows it, and in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainConnector;

impl Connector for PlainConnector {
    fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, tonic::transport::Error> {
        Endpoint::from_shared(format!("http://{address}"))
    }
}
