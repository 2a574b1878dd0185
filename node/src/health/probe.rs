//! One probe of one endpoint, by its type. What cannot be asked from here, for want of sockets or rights, is
//! [`FailureKind::Local`]: that is ignorance, and no result.

mod http;
mod icmp;
mod tcp;
mod tls;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use lockstep_model::health::{Failure, FailureKind};
use lockstep_model::intent::{HealthCheck, Probe};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::time::timeout;

/// Probes one endpoint again and again.
pub(crate) struct Prober {
    to: SocketAddr,
    check: Arc<HealthCheck>,
    /// Kept from probe to probe: that a host is not there may be known only after an answer was due.
    udp: udp::Kept,
}

impl Prober {
    pub(crate) fn new(to: SocketAddr, check: Arc<HealthCheck>) -> Self {
        Self { to, check, udp: udp::Kept::default() }
    }

    /// Asks once, for no longer than the check's timeout.
    pub(crate) async fn probe(&mut self) -> Result<(), Failure> {
        let (to, check) = (self.to, self.check.clone());
        let asked = async {
            match &check.probe {
                Probe::Tcp => tcp::connect(to).await.map(drop),
                Probe::Udp { send, expect } => {
                    udp::ask(&mut self.udp, to, send.as_deref(), expect.as_deref()).await
                }
                Probe::Http(probe) => http::get(tcp::connect(to).await?, to, probe).await,
                Probe::Https(probe) => http::get(tls::connect(to, &probe.host).await?, to, probe).await,
                Probe::Icmp => icmp::echo(to.ip()).await,
            }
        };
        match timeout(check.timeout, asked).await {
            Ok(outcome) => outcome,
            Err(_) if matches!(check.probe, Probe::Udp { send: None, expect: None }) => Ok(()),
            Err(_) => Err(Failure::of(FailureKind::Timeout)),
        }
    }
}

/// What an error of the network means.
fn failure(error: &io::Error) -> Failure {
    let errno = error.raw_os_error().map(Errno::from_raw);
    Failure::of(match errno {
        Some(Errno::ECONNREFUSED) => FailureKind::Refused,
        Some(
            Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENETDOWN
            | Errno::EACCES
            | Errno::EPERM,
        ) => FailureKind::Unreachable,
        Some(Errno::ETIMEDOUT) => FailureKind::Timeout,
        Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED) | None => FailureKind::Closed,
        Some(_) => return local(error),
    })
}

/// What an error of this node's own sockets means.
fn local(error: &io::Error) -> Failure {
    let detail = error.raw_os_error().and_then(|errno| u32::try_from(errno).ok()).unwrap_or(0);
    Failure { kind: FailureKind::Local, detail }
}

/// Has a socket told of every ICMP error, not only of those that TCP would give up for.
fn report_icmp_errors(socket: &impl std::os::fd::AsFd, to: SocketAddr) -> io::Result<()> {
    match to {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
