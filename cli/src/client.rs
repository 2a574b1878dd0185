//! A connection to the first server that answers.

use std::path::Path;

use lockstep_proto::admin::v1::admin_client::AdminClient;
use lockstep_proto::inspect::v1::inspect_client::InspectClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::args::Global;
use crate::failure::Failure;

/// Answers longer than this are refused by the client; lists are streamed and stay far below.
const MAX_ANSWER: usize = 64 << 20;

pub(crate) struct Client {
    pub(crate) admin: AdminClient<Channel>,
    pub(crate) inspect: InspectClient<Channel>,
    /// Reads need not be linearizable.
    pub(crate) stale: bool,
}

impl Client {
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let tls = tls(global)?;
        let mut reasons = Vec::new();
        for server in &global.servers {
            let endpoint = endpoint(server, tls.clone(), global)?;
            match endpoint.connect().await {
                Ok(channel) => {
                    return Ok(Self {
                        admin: AdminClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
                        inspect: InspectClient::new(channel).max_decoding_message_size(MAX_ANSWER),
                        stale: global.stale,
                    });
                }
                Err(error) => reasons.push(format!("{server}: {}", root_cause(&error))),
            }
        }
        Err(Failure::Unreachable(format!(
            "no server answered ({}); is lockstepd running, and is --server its api.listen?",
            reasons.join("; ")
        )))
    }
}

fn endpoint(server: &str, tls: Option<ClientTlsConfig>, global: &Global) -> Result<Endpoint, Failure> {
    let usage =
        |e: &dyn std::fmt::Display| Failure::Usage(format!("--server {server:?}: {e}; allowed: HOST:PORT"));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))
        .map_err(|e| usage(&e))?
        .connect_timeout(global.timeout)
        .timeout(global.timeout);
    match tls {
        Some(tls) => endpoint.tls_config(tls).map_err(|e| Failure::Usage(format!("--tls-ca: {e}"))),
        None => Ok(endpoint),
    }
}

fn tls(global: &Global) -> Result<Option<ClientTlsConfig>, Failure> {
    let (Some(ca), Some(cert), Some(key)) = (&global.tls_ca, &global.tls_cert, &global.tls_key) else {
        return Ok(None);
    };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| Failure::Usage(format!("{} cannot be read: {e}", path.display())))
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(ca)?))
        .identity(Identity::from_pem(read(cert)?, read(key)?));
    Ok(Some(tls))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
