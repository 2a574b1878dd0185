//! Where peers subscribe: a listener of replication's own, on its own thread.

use std::net::TcpListener;

use lockstep_sync_transport::Subscriptions;
use tokio::runtime::Handle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// Serves on `runtime` until that ends. `listener` does not block.
pub(super) fn start(runtime: &Handle, listener: TcpListener, mut server: Server, service: Subscriptions) {
    let router = server.add_service(service.into_server());
    runtime.spawn(async move {
        let served = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let served = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
                served.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::error!(
                error,
                "the replication listener ended: peers cannot subscribe to this node's flows"
            );
        }
    });
}
