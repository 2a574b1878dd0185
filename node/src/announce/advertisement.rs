//! The unsolicited neighbour advertisement (RFC 4861 section 4.4), as an Ethernet frame.

use std::net::Ipv6Addr;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Ethernet's of [`ALL_NODES`] (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// We are a router, and what is told replaces what was known.
const ROUTER_AND_OVERRIDE: u8 = 0x80 | 0x20;
/// ICMPv6 with the target and its link-layer address.
const BODY: usize = 32;
const FRAME: usize = 14 + 40 + BODY;

pub(super) fn frame(mac: [u8; 6], address: Ipv6Addr) -> [u8; FRAME] {
    let mut body = [0; BODY];
    body[0] = ADVERTISEMENT;
    body[4] = ROUTER_AND_OVERRIDE;
    body[8..24].copy_from_slice(&address.octets());
    body[24..26].copy_from_slice(&[2, 1]); // target link-layer address, of one unit of eight bytes
    body[26..32].copy_from_slice(&mac);
    let checksum = checksum(&address, &body);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
    frame[14] = 0x60;
    frame[18..20].copy_from_slice(&(BODY as u16).to_be_bytes());
    frame[20] = ICMPV6;
    frame[21] = 255; // anything else is dropped (RFC 4861 section 7.1.2)
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&ALL_NODES.octets());
    frame[54..].copy_from_slice(&body);
    frame
}

/// Over the pseudo-header (RFC 8200 section 8.1) and the body.
fn checksum(source: &Ipv6Addr, body: &[u8; BODY]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
    };
    let addresses = words(&source.octets()) + words(&ALL_NODES.octets());
    let mut sum = addresses + BODY as u32 + u32::from(ICMPV6) + words(body);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_one_that_hosts_believe() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let frame = frame([2, 0, 0, 0, 0, 1], address);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        assert_eq!((frame[20], frame[21]), (58, 255));
        assert_eq!((frame[54], frame[58]), (136, 0xa0));
        assert_eq!(frame[62..78], address.octets(), "target");
        assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 1], "target link-layer address");
        // With its checksum in place, all words sum up to nothing.
        let body: &[u8; BODY] = frame[54..].try_into().unwrap();
        assert_eq!(checksum(&address, body), 0);
    }
}
