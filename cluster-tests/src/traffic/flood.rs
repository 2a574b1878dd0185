//! Many flows at once, for tests that need a full table rather than a conversation: one datagram per flow, from
//! a raw socket, that asks for no answer.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context;

use super::udp::{LENGTH, Message};
use crate::interrupt;
use crate::namespace::Handle;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Datagrams sent in one go: well below the 1000 packets a CPU's backlog holds.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);
const FIRST_PORT: u16 = 1024;

/// Sends one datagram for each of `flows` client ports, over `sources`.
pub fn udp(
    namespace: &Handle,
    service: SocketAddrV4,
    sources: &[Ipv4Addr],
    flows: usize,
) -> anyhow::Result<()> {
    let per_source = flows.div_ceil(sources.len());
    anyhow::ensure!(per_source <= usize::from(u16::MAX - FIRST_PORT), "too few sources for {flows} flows");
    namespace.run(|| {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::RAW,
            Some(socket2::Protocol::from(libc::IPPROTO_RAW)),
        )
        .context("cannot open a raw socket")?;
        for flow in 0..flows {
            let source = sources[flow / per_source];
            let port = FIRST_PORT + (flow % per_source) as u16;
            let packet = datagram(SocketAddrV4::new(source, port), service);
            socket.send_to(&packet, &service.into()).context("cannot send a raw datagram")?;
            if flow % BURST == BURST - 1 {
                interrupt::check()?;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    })
}

/// A datagram from the IP header on. The kernel fills in the header's checksum; a UDP checksum of zero means none.
pub fn datagram(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let length = (IP_HEADER + UDP_HEADER + LENGTH) as u16;
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend([0x45, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, libc::IPPROTO_UDP as u8, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(((UDP_HEADER + LENGTH) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(Message::Silent.encode());
    packet
}
