//! A gRPC listener that serves on a runtime of its own choice.

use std::io;
use std::net::TcpListener;

use tokio::runtime::Handle;
use tonic::transport::server::{Router, TcpIncoming};

/// Serves on `runtime` until that ends. `listener` does not block; `end` is logged should it fail, with the error.
pub(crate) fn start(runtime: &Handle, listener: TcpListener, router: Router, end: &'static str) {
    runtime.spawn(async move {
        let served = match incoming(listener) {
            Ok(incoming) => router.serve_with_incoming(incoming).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::error!(error, "{end}");
        }
    });
}

/// The server's own setting holds only for listeners that it opens itself. Without this a small message waits until the
/// peer has acknowledged the one before, which it does after up to 40 ms.
fn incoming(listener: TcpListener) -> io::Result<TcpIncoming> {
    Ok(TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true)))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn small_messages_of_the_server_leave_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = incoming(listener).unwrap();
        let client = tokio::net::TcpStream::connect(address);
        let (_client, accepted) = tokio::join!(client, incoming.next());
        assert!(accepted.unwrap().unwrap().nodelay().unwrap());
    }
}
