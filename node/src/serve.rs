//! A gRPC listener that serves on a runtime of its own choice.

use std::net::TcpListener;

use tokio::runtime::Handle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Router;

/// Serves on `runtime` until that ends. `listener` does not block; `end` is logged should it fail, with the error.
pub(crate) fn start(runtime: &Handle, listener: TcpListener, router: Router, end: &'static str) {
    runtime.spawn(async move {
        let served = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let served = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
                served.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::error!(error, "{end}");
        }
    });
}
