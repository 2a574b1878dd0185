//! A gRPC listener that serves on a runtime of its own choice.

use std::io;
use std::net::TcpListener;

use futures::{Stream, TryStreamExt};
use lockstep_sync_transport::{Gathered, gathered};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::Handle;
use tonic::transport::server::{Connected, Router, TcpIncoming};

/// Serves on `runtime` until that ends. `listener` does not block; `end` is logged should it fail, with the error.
pub(crate) fn start(runtime: &Handle, listener: TcpListener, router: Router, end: &'static str) {
    start_over(runtime, listener, router, end, incoming);
}

/// The same for flow replication, whose streams share connections.
pub(crate) fn start_gathered(runtime: &Handle, listener: TcpListener, router: Router, end: &'static str) {
    start_over(runtime, listener, router, end, incoming_gathered);
}

fn start_over<I, C>(
    runtime: &Handle,
    listener: TcpListener,
    router: Router,
    end: &'static str,
    incoming: impl FnOnce(tokio::net::TcpListener) -> I + Send + 'static,
) where
    I: Stream<Item = io::Result<C>> + Send,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    runtime.spawn(async move {
        let served = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                router.serve_with_incoming(incoming(listener)).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::error!(error, "{end}");
        }
    });
}

fn incoming_gathered(
    listener: tokio::net::TcpListener,
) -> impl Stream<Item = io::Result<Gathered<OwnedReadHalf>>> {
    incoming(listener).map_ok(|stream| {
        let (read, write) = stream.into_split();
        let (connection, sending) = gathered(read, write);
        tokio::spawn(sending);
        connection
    })
}

/// The connections of a listener, for every server of this daemon. The server's own setting holds only for listeners that it
/// opens itself; without this a small message waits until the peer has acknowledged the one before, which it does after up
/// to 40 ms.
pub(crate) fn incoming(listener: tokio::net::TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn small_messages_of_the_server_leave_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = incoming(listener);
        let client = tokio::net::TcpStream::connect(address);
        let (_client, accepted) = tokio::join!(client, incoming.next());
        assert!(accepted.unwrap().unwrap().nodelay().unwrap());
    }
}
