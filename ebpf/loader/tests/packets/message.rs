//! IP packets of any protocol, and the messages in them, with every checksum computed in full.

use std::net::IpAddr;

use crate::case::{Family, Side};
use crate::frame::{Header, Mac, WHOLE, fold, icmp, icmp6, ip, l4_sum, ones};
use crate::rig::Rig;

pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// An IP packet in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    /// What follows the fixed header.
    pub(crate) body: Vec<u8>,
}

impl Datagram {
    pub(crate) fn header(&self) -> Header {
        Header {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            ttl: self.ttl,
            fragment: WHOLE,
            options: 0,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        ip(self.to, self.from, self.header(), &self.body)
    }

    /// Reads a frame; verifies IPv4's header checksum, and that the lengths are right.
    pub(crate) fn read(frame: &[u8]) -> Self {
        let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let length = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let (source, destination, protocol, ttl, body) = match frame[12..14] {
            [8, 0] => {
                let header = usize::from(frame[14] & 15) * 4;
                assert_eq!(fold(ones(&frame[14..14 + header])), 0, "IPv4 header checksum of {frame:x?}");
                assert_eq!(14 + length(16), frame.len(), "IPv4 length of {frame:x?}");
                (v4(26), v4(30), frame[23], frame[22], 34)
            }
            [0x86, 0xdd] => {
                assert_eq!(54 + length(18), frame.len(), "IPv6 length of {frame:x?}");
                (v6(22), v6(38), frame[20], frame[21], 54)
            }
            _ => panic!("EtherType {:x?}", &frame[12..14]),
        };
        Self {
            to: frame[..6].try_into().unwrap(),
            from: frame[6..12].try_into().unwrap(),
            source,
            destination,
            protocol,
            ttl,
            body: frame[body..].to_vec(),
        }
    }

    /// Verifies the checksum of a message or segment that is all of the body.
    pub(crate) fn verified(self) -> Self {
        let sum = match self.protocol {
            ICMP => fold(ones(&self.body)),
            SCTP => {
                assert_eq!(self.body, sealed(self.body.clone()), "CRC32c of {self:?}");
                0
            }
            protocol => l4_sum(self.source, self.destination, protocol, &self.body),
        };
        assert_eq!(sum, 0, "checksum of {self:?}");
        self
    }
}

/// An SCTP packet with its checksum (RFC 9260, appendix A), bit by bit.
pub(crate) fn sealed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8..12].fill(0);
    let mut crc = !0u32;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

/// The IANA number of a family's ICMP.
pub(crate) fn icmp_of(family: Family) -> u8 {
    if family == Family::V4 { ICMP } else { ICMPV6 }
}

/// Echo request and reply.
pub(crate) fn echo_types(family: Family) -> (u8, u8) {
    if family == Family::V4 { (8, 0) } else { (128, 129) }
}

/// Type and code of errors, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    Unreachable,
    TooBig,
    TimeExceeded,
}

impl Error {
    pub(crate) fn number(self, family: Family) -> (u8, u8) {
        match (self, family) {
            (Error::Unreachable, Family::V4) => (3, 3),
            (Error::Unreachable, Family::V6) => (1, 4),
            (Error::TooBig, Family::V4) => (3, 4),
            (Error::TooBig, Family::V6) => (2, 0),
            (Error::TimeExceeded, Family::V4) => (11, 0),
            (Error::TimeExceeded, Family::V6) => (3, 0),
        }
    }
}

impl Rig {
    /// An ICMP message of the case's family between hosts of a side.
    pub(crate) fn message(
        &self,
        side: Side,
        (source, destination): (IpAddr, IpAddr),
        (kind, code): (u8, u8),
        rest: &[u8],
    ) -> Datagram {
        let host = match source {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        let body = match self.net {
            Family::V4 => icmp(kind, code, rest),
            Family::V6 => icmp6(source, destination, kind, code, rest),
        };
        Datagram {
            to: side.own_mac(),
            from: side.mac(host),
            source,
            destination,
            protocol: icmp_of(self.net),
            ttl: 64,
            body,
        }
    }

    /// An error about a packet, of which the frame is given and so many bytes are quoted.
    pub(crate) fn error(
        &self,
        side: Side,
        ends: (IpAddr, IpAddr),
        error: Error,
        (mtu, quoted): (u32, &[u8]),
    ) -> Datagram {
        let rest = [&mtu.to_be_bytes()[..], quoted].concat();
        self.message(side, ends, error.number(self.net), &rest)
    }

    pub(crate) fn send_datagram(&self, side: Side, datagram: &Datagram) -> crate::rig::Sent {
        self.send(self.ifindex(side), &datagram.bytes())
    }
}
