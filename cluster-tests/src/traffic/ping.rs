//! ICMP echo, from the calling thread's namespace.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::pattern::{Direction, Pattern};

const ANSWER: Duration = Duration::from_secs(2);
const HEADER: usize = 8;
const PAYLOAD: usize = 56;
const IDENTIFIER: u16 = 0x4c53;

/// Sends `count` echo requests and demands each one's reply, with the bytes that were sent.
pub fn ping(from: IpAddr, to: IpAddr, count: u16) -> anyhow::Result<()> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("cannot open a raw socket")?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    socket.set_read_timeout(Some(ANSWER))?;
    for number in 1..=count {
        let request = message(if to.is_ipv4() { 8 } else { 128 }, number);
        socket.send(&request).context("cannot send")?;
        let reply = message(if to.is_ipv4() { 0 } else { 129 }, number);
        hear(&socket, to, &reply).with_context(|| format!("ping {number} of {to}"))?;
    }
    Ok(())
}

/// With its checksum, which the kernel computes anew where it is ICMPv6's.
fn message(kind: u8, number: u16) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + PAYLOAD];
    bytes[0] = kind;
    bytes[4..6].copy_from_slice(&IDENTIFIER.to_be_bytes());
    bytes[6..8].copy_from_slice(&number.to_be_bytes());
    Pattern::new(u64::from(number), Direction::Up).fill(0, &mut bytes[HEADER..]);
    let sum = super::stray::checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn hear(mut socket: &Socket, to: IpAddr, wanted: &[u8]) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANSWER;
    let mut bytes = [0; 512];
    while Instant::now() < deadline {
        let got = match socket.read(&mut bytes) {
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("cannot receive"),
        };
        // A raw IPv4 socket gives the IP header too.
        let start = if to.is_ipv4() { usize::from(bytes[0] & 0x0f) * 4 } else { 0 };
        ensure!(got >= start + HEADER, "a message of {got} bytes");
        let message = &bytes[start..got];
        if message[0] != wanted[0] || message[4..8] != wanted[4..8] {
            continue;
        }
        ensure!(message[HEADER..] == wanted[HEADER..], "the reply has other bytes");
        return Ok(());
    }
    bail!("no reply")
}
