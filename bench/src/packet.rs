//! Frames of a client and of an endpoint, with every checksum right, and the plans that vary them.

use std::net::IpAddr;

use crate::plan::{HEADER_V6, HEADER_WORDS, Plan};

pub(crate) type Mac = [u8; 6];

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

const TCP: u8 = 6;
const ETHERNET: usize = 14;
const TCP_HEADER: usize = 20;

/// One end of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) mac: Mac,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// A TCP packet whose IP packet is padded to fill `size` bytes of frame. As a wrapper makes that of flow 0: the
/// identification and the low half of the sequence number are the complements of what varies (`varied_port`, and
/// the low half of an address, which is 0).
pub(crate) fn tcp(from: End, to: End, flags: u8, size: usize, varied_port: u16) -> Vec<u8> {
    let (header, ether_type) = match from.address {
        IpAddr::V4(_) => (20, [0x08, 0x00]),
        IpAddr::V6(_) => (40, [0x86, 0xdd]),
    };
    let mut frame = [&to.mac[..], &from.mac, &ether_type].concat();
    frame.resize(size.max(ETHERNET + header + TCP_HEADER), 0);
    let (network, segment) = frame[ETHERNET..].split_at_mut(header);
    let total = (header + segment.len()) as u16;
    match (from.address, to.address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            network[0] = 0x45;
            network[2..4].copy_from_slice(&total.to_be_bytes());
            network[4..6].copy_from_slice(&[0xff, 0xff]);
            network[6] = 0x40;
            (network[8], network[9]) = (64, TCP);
            network[12..16].copy_from_slice(&source.octets());
            network[16..20].copy_from_slice(&destination.octets());
            let sum = complement(ones(network));
            network[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            network[0] = 0x60;
            network[4..6].copy_from_slice(&(segment.len() as u16).to_be_bytes());
            (network[6], network[7]) = (TCP, 64);
            network[8..24].copy_from_slice(&source.octets());
            network[24..40].copy_from_slice(&destination.octets());
        }
        (from, to) => panic!("a packet from {from} to {to} has no family"),
    }
    segment[0..2].copy_from_slice(&from.port.to_be_bytes());
    segment[2..4].copy_from_slice(&to.port.to_be_bytes());
    segment[6..8].copy_from_slice(&(!varied_port).to_be_bytes());
    segment[11] = 1;
    segment[12..16].copy_from_slice(&[5 << 4, flags, 0xff, 0xff]);
    let addresses = &network[if header == 20 { 12 } else { 8 }..];
    let sum = complement(ones(addresses) + u64::from(TCP) + segment.len() as u64 + ones(segment));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Which flows a wrapper makes of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flows {
    /// A power of two.
    pub(crate) count: u32,
    /// [`crate::plan::SOURCE`] or [`crate::plan::DESTINATION`].
    pub(crate) varied: u32,
    pub(crate) first_port: u16,
    /// In an order without locality, instead of one after the other.
    pub(crate) scattered: bool,
}

/// Odd, and near the golden section of 2^32: neighbours in time are far apart.
const SCATTER: u32 = 0x9e37_79b1;

impl Flows {
    pub(crate) fn plan(&self, frame: &[u8]) -> Plan {
        assert!(self.count.is_power_of_two(), "{} flows", self.count);
        let mut header = [0u64; HEADER_WORDS];
        let bytes = frame.iter().copied().chain(std::iter::repeat(0)).take(HEADER_V6).collect::<Vec<u8>>();
        for (word, bytes) in header.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        }
        Plan {
            header,
            mask: self.count - 1,
            varied: self.varied,
            first_port: u32::from(self.first_port),
            step: if self.scattered { SCATTER } else { 1 },
        }
    }
}

fn ones(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from)).sum()
}

fn complement(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn end(address: IpAddr, port: u16) -> End {
        End { mac: [2, 0, 0, 0, 0, 1], address, port }
    }

    #[test]
    fn checksums_add_up() {
        let client = end(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), 20000);
        let vip = end(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);
        let frame = tcp(client, vip, ACK, 64, 20000);
        assert_eq!(frame.len(), 64);
        assert_eq!(complement(ones(&frame[14..34])), 0);
        assert_eq!(complement(ones(&frame[26..34]) + 6 + 30 + ones(&frame[34..])), 0);

        let client = end(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0)), 20000);
        let vip = end(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10)), 80);
        let frame = tcp(client, vip, SYN, 1514, 20000);
        assert_eq!(frame.len(), 1514);
        assert_eq!(complement(ones(&frame[22..54]) + 6 + 1460 + ones(&frame[54..])), 0);
    }
}
