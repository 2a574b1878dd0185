//! The gRPC services for operators, on `api.listen`: admin and inspect, health and reflection.

pub(crate) mod admin;
mod admin_reads;
mod backup;
mod drain;
mod give;
mod health;
pub(crate) mod inspect;
mod membership;
pub(crate) mod refuse;
mod replication;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use lockstep_proto::admin::v1::admin_server::AdminServer;
use lockstep_proto::inspect::v1::inspect_server::InspectServer;
use tokio::net::TcpListener;

use crate::parts::Parts;
use crate::serve;
use crate::tls::Tls;

/// A manifest of 1024 services with 1024 endpoints each is not an operator's: requests are bounded.
const MAX_REQUEST: usize = 4 << 20;

/// Serves until `stop` resolves.
pub(crate) async fn serve(
    listen: SocketAddr,
    tls: &Tls,
    parts: Arc<Parts>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<tokio::task::JoinHandle<()>> {
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("api.listen: {listen} cannot be bound"))?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AdminServer<admin::Admin>>().await;
    health.set_serving::<InspectServer<inspect::Inspect>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lockstep_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the gRPC reflection service cannot be built")?;
    let router = tls
        .server(listen)?
        .add_service(health_service)
        .add_service(reflection)
        .add_service(
            AdminServer::new(admin::Admin::new(parts.clone())).max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(InspectServer::new(inspect::Inspect::new(parts)).max_decoding_message_size(MAX_REQUEST));
    Ok(tokio::spawn(async move {
        if let Err(error) = router.serve_with_incoming_shutdown(serve::incoming(listener), stop).await {
            tracing::error!(%error, "the API server ended");
        }
    }))
}
