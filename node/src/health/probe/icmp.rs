//! An echo is answered (RFC 792, RFC 4443). By a raw socket: ping sockets are forbidden to everybody unless the
//! host's `net.ipv4.ping_group_range` says otherwise.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lockstep_model::health::Failure;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::{failure, local, report_icmp_errors};

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;
const ECHO6: u8 = 128;
const ECHO6_REPLY: u8 = 129;

/// Type, code, checksum, identifier, sequence number; then what we recognise our answer by.
const HEADER: usize = 8;
const TOKEN: usize = 16;

pub(super) async fn echo(to: IpAddr) -> Result<(), Failure> {
    let (socket, to) = (open(to).map_err(|e| local(&e))?, SocketAddr::new(to, 0));
    socket.get_ref().connect(&to.into()).map_err(|e| failure(&e))?;
    let token: [u8; TOKEN] = rand::random();
    let request = request(to.is_ipv4(), &token);
    let sent = socket.async_io(tokio::io::Interest::WRITABLE, |socket| socket.send(&request)).await;
    sent.map_err(|e| failure(&e))?;
    loop {
        let mut packet = [0; 256];
        let read = |socket: &Socket| io::Read::read(&mut &*socket, &mut packet);
        let length = socket.async_io(tokio::io::Interest::READABLE, read).await.map_err(|e| failure(&e))?;
        if answers(to.is_ipv4(), &packet[..length], &request) {
            return Ok(());
        }
    }
}

fn open(to: IpAddr) -> io::Result<AsyncFd<Socket>> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    report_icmp_errors(&socket, SocketAddr::new(to, 0))?;
    // SAFETY: the socket owns its descriptor, and never gives it to anybody else.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(|e| e.into_parts().1)
}

/// The kernel computes ICMPv6's checksum, which has addresses in it.
fn request(v4: bool, token: &[u8; TOKEN]) -> [u8; HEADER + TOKEN] {
    let mut packet = [0; HEADER + TOKEN];
    packet[0] = if v4 { ECHO } else { ECHO6 };
    // Identifier and sequence number tell nothing that the token does not, but stand in captures.
    packet[4..8].copy_from_slice(&token[..4]);
    packet[HEADER..].copy_from_slice(token);
    if v4 {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Whether a packet is the answer. A raw IPv4 socket shows its IP header, an IPv6 one does not.
fn answers(v4: bool, packet: &[u8], request: &[u8]) -> bool {
    let header = if v4 { packet.first().map_or(0, |first| usize::from(first & 0xf) * 4) } else { 0 };
    let Some(message) = packet.get(header..) else { return false };
    let reply = if v4 { ECHO_REPLY } else { ECHO6_REPLY };
    message.len() >= request.len() && message[..2] == [reply, 0] && message[4..request.len()] == request[4..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_to_this_request() {
        let request = request(true, &[7; TOKEN]);
        assert_eq!(checksum(&request), 0, "with its checksum in it");
        let mut packet = [vec![0x46; 24], request.to_vec()].concat();
        assert!(!answers(true, &packet, &request), "the request itself");
        packet[24] = ECHO_REPLY;
        assert!(answers(true, &packet, &request));
        assert!(!answers(true, &packet[..40], &request));
        assert!(!answers(true, &[], &request));
        packet[24 + HEADER + 3] ^= 1;
        assert!(!answers(true, &packet, &request));
    }
}
