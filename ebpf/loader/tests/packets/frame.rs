//! Frames as peers send and see them, with every checksum computed in full.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const SYN: u8 = 2;
pub(crate) const FIN: u8 = 1;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) type Mac = [u8; 6];

const ETHERNET: usize = 14;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_HOP_BY_HOP: u8 = 0;

/// A TCP or UDP packet in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// What an IP header of either family says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    /// As in IPv4's header; over IPv6, what more than "do not" it says is said in an extension header.
    pub(crate) fragment: u16,
    /// Bytes of IPv4 options; over IPv6, not 0: an extension header without meaning.
    pub(crate) options: usize,
}

/// Do not fragment.
pub(crate) const WHOLE: u16 = 0x4000;

pub(crate) fn ones(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum()
}

pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The checksum of TCP, UDP or ICMPv6 over a pseudo header; 0 over a message that contains the right one.
pub(crate) fn l4_sum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let pseudo = ones(&octets(source)) + ones(&octets(destination)) + u32::from(protocol);
    fold(pseudo + segment.len() as u32 + ones(segment))
}

/// An IP packet in a frame.
pub(crate) fn ip(to: Mac, from: Mac, header: Header, body: &[u8]) -> Vec<u8> {
    match (header.source, header.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4(to, from, header, (source, destination), body),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6(to, from, header, (source, destination), body),
        _ => panic!("two families in {header:?}"),
    }
}

fn ipv4(
    to: Mac,
    from: Mac,
    header: Header,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    body: &[u8],
) -> Vec<u8> {
    let mut ip = vec![0x40 | (5 + header.options / 4) as u8, 0];
    ip.extend(((20 + header.options + body.len()) as u16).to_be_bytes());
    ip.extend([0x12, 0x34]);
    ip.extend(header.fragment.to_be_bytes());
    ip.extend([header.ttl, header.protocol, 0, 0]);
    ip.extend(source.octets());
    ip.extend(destination.octets());
    ip.extend(vec![1; header.options]); // no-operation
    let sum = fold(ones(&ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to[..], &from, &[8, 0], &ip, body].concat()
}

fn ipv6(
    to: Mac,
    from: Mac,
    header: Header,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    body: &[u8],
) -> Vec<u8> {
    let mut next = header.protocol;
    let mut extensions = Vec::new();
    if header.fragment & !WHOLE != 0 {
        let more = u16::from(header.fragment & 0x2000 != 0);
        let place = (header.fragment & 0x1fff) << 3 | more;
        extensions = [&[next, 0][..], &place.to_be_bytes(), &[0, 0, 0x12, 0x34]].concat();
        next = IPV6_FRAGMENT;
    }
    if header.options != 0 {
        // Padding.
        extensions = [&[next, 0, 1, 4, 0, 0, 0, 0][..], &extensions].concat();
        next = IPV6_HOP_BY_HOP;
    }
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend(((extensions.len() + body.len()) as u16).to_be_bytes());
    ip.extend([next, header.ttl]);
    ip.extend(source.octets());
    ip.extend(destination.octets());
    [&to[..], &from, &[0x86, 0xdd], &ip, &extensions, body].concat()
}

/// Flags, where the protocol has some.
pub(crate) fn flags_of(protocol: u8, flags: u8) -> u8 {
    if protocol == TCP { flags } else { 0 }
}

impl Packet {
    pub(crate) fn header(&self) -> Header {
        Header {
            source: self.source.0,
            destination: self.destination.0,
            protocol: self.protocol,
            ttl: self.ttl,
            fragment: WHOLE,
            options: 0,
        }
    }

    /// TCP or UDP header with payload and checksum.
    pub(crate) fn segment(&self) -> Vec<u8> {
        let mut segment = [self.source.1.to_be_bytes(), self.destination.1.to_be_bytes()].concat();
        let at = if self.protocol == TCP {
            segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
            16
        } else {
            segment.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            segment.extend([0, 0]);
            6
        };
        segment.extend(&self.payload);
        let mut sum = l4_sum(self.source.0, self.destination.0, self.protocol, &segment);
        if self.protocol == UDP && sum == 0 {
            sum = 0xffff;
        }
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with(self.header())
    }

    /// The same behind another header.
    pub(crate) fn bytes_with(&self, header: Header) -> Vec<u8> {
        ip(self.to, self.from, header, &self.segment())
    }

    /// What the receiver answers: everything turned around.
    pub(crate) fn answer(&self, flags: u8) -> Self {
        Self {
            to: self.from,
            from: self.to,
            source: self.destination,
            destination: self.source,
            ttl: 64,
            flags: flags_of(self.protocol, flags),
            payload: b"an answer".to_vec(),
            ..*self
        }
    }

    /// Reads a frame and verifies every checksum in full.
    pub(crate) fn parse(frame: &[u8]) -> Self {
        let packet = Self::parse_unverified(frame);
        let (at, end) = match frame[12..14] {
            [8, 0] => {
                let ip = &frame[ETHERNET..34];
                assert_eq!(fold(ones(ip)), 0, "IPv4 header checksum");
                (34, ETHERNET + usize::from(u16::from_be_bytes([ip[2], ip[3]])))
            }
            _ => (54, 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))),
        };
        assert_eq!(
            l4_sum(packet.source.0, packet.destination.0, packet.protocol, &frame[at..end]),
            0,
            "transport checksum of {packet:?}"
        );
        packet
    }

    pub(crate) fn parse_unverified(frame: &[u8]) -> Self {
        let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let (source, destination, protocol, ttl, at) = match frame[12..14] {
            [8, 0] => (v4(26), v4(30), frame[23], frame[22], 34),
            [0x86, 0xdd] => (v6(22), v6(38), frame[20], frame[21], 54),
            _ => panic!("EtherType {:x?}", &frame[12..14]),
        };
        assert!([TCP, UDP].contains(&protocol), "protocol {protocol}");
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let tcp = protocol == TCP;
        Self {
            to: frame[0..6].try_into().unwrap(),
            from: frame[6..12].try_into().unwrap(),
            source: (source, port(at)),
            destination: (destination, port(at + 2)),
            protocol,
            ttl,
            flags: if tcp { frame[at + 13] } else { 0 },
            payload: frame[at + if tcp { 20 } else { 8 }..].to_vec(),
        }
    }
}

/// An ICMP message of IPv4.
pub(crate) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = fold(ones(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ICMPv6 message.
pub(crate) fn icmp6(source: IpAddr, destination: IpAddr, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = l4_sum(source, destination, ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A ping or its answer, of the header's family.
pub(crate) fn echo(to: Mac, from: Mac, header: Header, request: bool, body: &[u8]) -> Vec<u8> {
    if header.source.is_ipv4() {
        let message = icmp(if request { 8 } else { 0 }, 0, body);
        return ip(to, from, Header { protocol: ICMP, ..header }, &message);
    }
    let message = icmp6(header.source, header.destination, if request { 128 } else { 129 }, 0, body);
    ip(to, from, Header { protocol: ICMPV6, ..header }, &message)
}

/// An error about a packet: that the port is unreachable.
pub(crate) fn unreachable(to: Mac, from: Mac, header: Header, about: &[u8]) -> Vec<u8> {
    let body = [&[0; 4][..], about].concat();
    if header.source.is_ipv4() {
        return ip(to, from, Header { protocol: ICMP, ..header }, &icmp(3, 3, &body));
    }
    let message = icmp6(header.source, header.destination, 1, 4, &body);
    ip(to, from, Header { protocol: ICMPV6, ..header }, &message)
}

/// An ARP packet in a frame.
pub(crate) fn arp(to: Mac, operation: u8, sender: (Mac, IpAddr), target: (Mac, IpAddr)) -> Vec<u8> {
    [
        &to[..],
        &sender.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &sender.0,
        &octets(sender.1),
        &target.0,
        &octets(target.1),
    ]
    .concat()
}
