//! What a captured frame is, as far as judging goes.

use std::fmt;
use std::net::Ipv4Addr;

const ETHERNET: usize = 14;
const RST: u8 = 0x04;

/// The few fields that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A TCP or UDP packet.
    Packet {
        /// Source address and port.
        from: (Ipv4Addr, u16),
        /// Destination address and port.
        to: (Ipv4Addr, u16),
        /// TCP with RST set.
        rst: bool,
    },
    /// ICMP destination unreachable.
    Unreachable(Unreachable),
    /// Another ICMP message.
    Icmp {
        /// Who sent it.
        from: Ipv4Addr,
    },
    /// ARP that says where an address is (a reply, or an announcement).
    ArpClaim(Ipv4Addr),
    /// Anything else.
    Other,
}

/// What an ICMP destination-unreachable message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// 1: the host; 3: the port; and so on (RFC 792).
    pub code: u8,
    /// Who says so.
    pub from: Ipv4Addr,
    /// Whom it tells.
    pub to: Ipv4Addr,
    /// Source and destination of the packet that it is about, if it says them.
    pub about: Option<[(Ipv4Addr, u16); 2]>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {} from {} to {}", self.code, self.from, self.to)?;
        let Some([(from, from_port), (to, to_port)]) = self.about else { return Ok(()) };
        write!(f, " about {from}:{from_port} to {to}:{to_port}")
    }
}

/// Reads a frame's beginning. Fragments other than the first have no ports and are `Other`.
pub fn parse(bytes: &[u8]) -> Frame {
    read(bytes).unwrap_or(Frame::Other)
}

fn read(bytes: &[u8]) -> Option<Frame> {
    let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    match i32::from(half(12)?) {
        libc::ETH_P_ARP => {
            let (operation, sender, target) = (half(20)?, address(28)?, address(38)?);
            // A request for another address claims nothing; a reply and an announcement do.
            Some(if operation == 2 || sender == target { Frame::ArpClaim(sender) } else { Frame::Other })
        }
        libc::ETH_P_IP => {
            let header = usize::from(bytes.get(ETHERNET)? & 0x0f) * 4;
            let (from, to) = (address(26)?, address(30)?);
            if half(20)? & 0x1fff != 0 {
                return Some(Frame::Other);
            }
            let transport = ETHERNET + header;
            match i32::from(*bytes.get(23)?) {
                protocol @ (libc::IPPROTO_TCP | libc::IPPROTO_UDP) => Some(Frame::Packet {
                    from: (from, half(transport)?),
                    to: (to, half(transport + 2)?),
                    rst: protocol == libc::IPPROTO_TCP && bytes.get(transport + 13)? & RST != 0,
                }),
                libc::IPPROTO_ICMP if *bytes.get(transport)? == 3 => {
                    let inner = transport + 8;
                    let about = || {
                        let ports = inner + usize::from(bytes.get(inner)? & 0x0f) * 4;
                        Some([(address(inner + 12)?, half(ports)?), (address(inner + 16)?, half(ports + 2)?)])
                    };
                    let code = *bytes.get(transport + 1)?;
                    Some(Frame::Unreachable(Unreachable { code, from, to, about: about() }))
                }
                libc::IPPROTO_ICMP => Some(Frame::Icmp { from }),
                _ => Some(Frame::Other),
            }
        }
        _ => Some(Frame::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        bytes.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]);
        bytes.extend([192, 0, 2, 101, 192, 0, 2, 10]);
        bytes.extend(transport);
        bytes
    }

    #[test]
    fn frames_are_told_apart() {
        let mut tcp = [0u8; 20];
        tcp[..4].copy_from_slice(&[0x12, 0x34, 0x01, 0xbb]);
        tcp[13] = RST;
        let expected = Frame::Packet {
            from: (Ipv4Addr::new(192, 0, 2, 101), 0x1234),
            to: (Ipv4Addr::new(192, 0, 2, 10), 443),
            rst: true,
        };
        assert_eq!(parse(&ipv4(6, &tcp)), expected);
        let unreachable = |bytes: &[u8]| match parse(&ipv4(1, bytes)) {
            Frame::Unreachable(message) => message.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(unreachable(&[3, 1, 0, 0]), "code 1 from 192.0.2.101 to 192.0.2.10");
        let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
        message.extend(&ipv4(17, &[0x12, 0x34, 0, 53])[ETHERNET..]);
        assert_eq!(
            unreachable(&message),
            "code 3 from 192.0.2.101 to 192.0.2.10 about 192.0.2.101:4660 to 192.0.2.10:53"
        );
        assert_eq!(parse(&ipv4(6, &tcp[..3])), Frame::Other);
        assert_eq!(parse(&[]), Frame::Other);
        let mut arp = vec![0; 12];
        arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10]);
        arp.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 101]);
        assert_eq!(parse(&arp), Frame::ArpClaim(Ipv4Addr::new(192, 0, 2, 10)));
    }
}
