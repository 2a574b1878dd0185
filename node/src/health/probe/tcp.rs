//! A connection is accepted.

use std::net::SocketAddr;

use lockstep_model::health::Failure;
use tokio::net::{TcpSocket, TcpStream};

use super::{failure, local};

/// Connects. The connection ends with a reset: thousands of probes a second would leave as many ports waiting.
pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|e| local(&e))?;
    socket.set_zero_linger().map_err(|e| local(&e))?;
    socket.connect(to).await.map_err(|e| failure(&e))
}
