//! Frames as peers send and see them, with every checksum computed in full.

use std::net::Ipv4Addr;

pub(crate) const SYN: u8 = 2;
pub(crate) const FIN: u8 = 1;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) type Mac = [u8; 6];

/// A TCP or UDP packet in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn ones(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum()
}

pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn l4_sum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    fold(
        ones(&source.octets())
            + ones(&destination.octets())
            + u32::from(protocol)
            + segment.len() as u32
            + ones(segment),
    )
}

/// An IPv4 packet in a frame.
pub(crate) fn ipv4(to: Mac, from: Mac, header: Header, body: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x40 | (5 + header.options / 4) as u8, 0];
    ip.extend(((20 + header.options + body.len()) as u16).to_be_bytes());
    ip.extend([0x12, 0x34]);
    ip.extend(header.fragment.to_be_bytes());
    ip.extend([header.ttl, header.protocol, 0, 0]);
    ip.extend(header.source.octets());
    ip.extend(header.destination.octets());
    ip.extend(vec![1; header.options]); // no-operation
    let sum = fold(ones(&ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to[..], &from, &[8, 0], &ip, body].concat()
}

#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) fragment: u16,
    pub(crate) options: usize,
}

impl Packet {
    pub(crate) fn header(&self) -> Header {
        Header {
            source: self.source.0,
            destination: self.destination.0,
            protocol: self.protocol,
            ttl: self.ttl,
            fragment: 0x4000,
            options: 0,
        }
    }

    /// TCP or UDP header with payload and checksum.
    pub(crate) fn segment(&self) -> Vec<u8> {
        let mut segment = [self.source.1.to_be_bytes(), self.destination.1.to_be_bytes()].concat();
        let at = if self.protocol == 6 {
            segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
            16
        } else {
            segment.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            segment.extend([0, 0]);
            6
        };
        segment.extend(&self.payload);
        let mut sum = l4_sum(self.source.0, self.destination.0, self.protocol, &segment);
        if self.protocol == 17 && sum == 0 {
            sum = 0xffff;
        }
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        ipv4(self.to, self.from, self.header(), &self.segment())
    }

    /// Reads a frame and verifies every checksum in full.
    pub(crate) fn parse(frame: &[u8]) -> Self {
        let packet = Self::parse_unverified(frame);
        let ip = &frame[14..34];
        assert_eq!(fold(ones(ip)), 0, "IPv4 header checksum");
        let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let segment = &frame[34..14 + length];
        assert_eq!(
            l4_sum(packet.source.0, packet.destination.0, packet.protocol, segment),
            0,
            "transport checksum of {packet:?}"
        );
        packet
    }

    pub(crate) fn parse_unverified(frame: &[u8]) -> Self {
        assert_eq!(&frame[12..14], [8, 0], "EtherType");
        let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let tcp = frame[23] == 6;
        Self {
            to: frame[0..6].try_into().unwrap(),
            from: frame[6..12].try_into().unwrap(),
            source: (address(26), port(34)),
            destination: (address(30), port(36)),
            protocol: frame[23],
            ttl: frame[22],
            flags: if tcp { frame[47] } else { 0 },
            payload: frame[if tcp { 54 } else { 42 }..].to_vec(),
        }
    }
}

/// An ICMP message.
pub(crate) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = fold(ones(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ARP packet in a frame.
pub(crate) fn arp(to: Mac, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    [
        &to[..],
        &sender.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    ]
    .concat()
}
