//! A datagram is answered, or at least not refused.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use lockstep_model::health::{Failure, FailureKind};
use tokio::net::UdpSocket;

use super::{failure, local, report_icmp_errors};

/// Largest datagram that is looked into.
const MAX_ANSWER: usize = 2048;

/// A connected socket that outlives a probe: where silence is health, that a host is not there shows only by an
/// error, which may come later than an answer would. The error ends the socket, and with it what the kernel has
/// queued of errors.
#[derive(Default)]
pub(super) struct Kept(Option<UdpSocket>);

/// Sends, and waits for an answer, without end: the caller's timeout is what tells silence. Cancel-safe.
pub(super) async fn ask(
    kept: &mut Kept,
    to: SocketAddr,
    send: Option<&[u8]>,
    expect: Option<&[u8]>,
) -> Result<(), Failure> {
    if send.is_some() || expect.is_some() {
        // A socket of its own, so that a late answer to one probe is none to the next.
        return exchange(&open(to).await?, send.unwrap_or_default(), expect).await;
    }
    let socket = match kept.0.take() {
        Some(socket) => socket,
        None => open(to).await?,
    };
    let outcome = exchange(kept.0.insert(socket), &[], None).await;
    if outcome.is_err() {
        kept.0 = None;
    }
    outcome
}

async fn exchange(socket: &UdpSocket, send: &[u8], expect: Option<&[u8]>) -> Result<(), Failure> {
    socket.send(send).await.map_err(|e| failure(&e))?;
    let mut answer = [0; MAX_ANSWER];
    let length = socket.recv(&mut answer).await.map_err(|e| failure(&e))?;
    match expect {
        Some(expect) if !answer[..length].windows(expect.len()).any(|part| part == expect) => {
            Err(Failure::of(FailureKind::Unexpected))
        }
        _ => Ok(()),
    }
}

async fn open(to: SocketAddr) -> Result<UdpSocket, Failure> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let opened = async {
        let socket = UdpSocket::bind(any).await?;
        report_icmp_errors(&socket, to)?;
        io::Result::Ok(socket)
    };
    let socket = opened.await.map_err(|e| local(&e))?;
    // That there is no route shows here.
    socket.connect(to).await.map_err(|e| failure(&e))?;
    Ok(socket)
}
