//! The addresses and ports that the daemon will listen on.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::Findings;
use crate::config::Config;

pub(super) fn check(config: &Config, running: bool, findings: &mut Findings) {
    let tcp = |address| TcpListener::bind(address).map(drop);
    let udp = |address| UdpSocket::bind(address).map(drop);
    type Bind = fn(SocketAddr) -> std::io::Result<()>;
    let replication: Option<(&str, SocketAddr, Bind)> =
        config.dataplane.as_ref().map(|_| ("sync.listen", config.sync_listen(), tcp as Bind));
    let listeners: [(&str, SocketAddr, Bind); 4] = [
        ("cluster.listen", config.cluster.listen, tcp),
        ("lease.listen", config.lease.listen, udp),
        ("api.listen", config.api.listen, tcp),
        ("metrics.listen", config.metrics.listen, tcp),
    ];
    for (key, address, bind) in listeners.into_iter().chain(replication) {
        one(key, address, bind(address), running, findings);
    }
}

fn one(key: &str, address: SocketAddr, bound: std::io::Result<()>, running: bool, findings: &mut Findings) {
    match bound {
        Ok(()) if running => findings.warn(
            key,
            format!("{address}: the running daemon does not listen there: its configuration is another one"),
        ),
        Ok(()) => findings.ok(key, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && running => {
            findings.ok(key, format!("{address} is in use, as it should be while the daemon runs"));
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            findings.fail(key, format!("{address} is in use by another program: find it with `ss -lnp`"));
        }
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            findings.fail(key, format!("{address}: no interface has this address"));
        }
        Err(error) => findings.fail(key, format!("{address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_port_in_use_fails_unless_it_is_the_daemons() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let verdict = |running| {
            let mut findings = Findings::default();
            one("api.listen", address, TcpListener::bind(address).map(drop), running, &mut findings);
            findings.0[0].verdict
        };
        assert_eq!((verdict(false), verdict(true)), (Verdict::Fail, Verdict::Ok));
        let mut findings = Findings::default();
        let elsewhere: SocketAddr = "192.0.2.1:1".parse().unwrap();
        one("api.listen", elsewhere, TcpListener::bind(elsewhere).map(drop), false, &mut findings);
        assert!(findings.0[0].to_string().contains("no interface has this address"), "{findings:?}");
    }
}
