//! The IPv4 header.

use lockstep_abi::reason::Reason;

/// What the dataplane needs of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source, network order.
    pub source_be: u32,
    /// Destination, network order.
    pub destination_be: u32,
    /// IANA protocol.
    pub protocol: u8,
    /// Time to live as received.
    pub ttl: u8,
    /// Any fragment, the first included.
    pub fragment: bool,
    /// The header is longer than 20 bytes.
    pub options: bool,
}

impl Ipv4 {
    /// Reads a header's first 20 bytes; `length` is what the frame holds from the header on. An aggregated
    /// (GSO) packet may hold more than its 16-bit total length says.
    #[inline(always)]
    pub fn parse(header: &[u8; 20], length: u32) -> Result<Self, Reason> {
        let words = u32::from(header[0] & 0x0f);
        let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
        // Total length 0 is what an aggregate beyond 64 KiB says (BIG TCP).
        if header[0] >> 4 != 4
            || words < 5
            || length < words * 4
            || (total != 0 && (total < words * 4 || total > length))
        {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            source_be: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            destination_be: u32::from_ne_bytes([header[16], header[17], header[18], header[19]]),
            protocol: header[9],
            ttl: header[8],
            // More-fragments, or an offset.
            fragment: header[6] & 0x3f != 0 || header[7] != 0,
            options: words > 5,
        })
    }

    /// Whether a router may pass it on.
    #[inline(always)]
    pub const fn may_be_forwarded(&self) -> bool {
        self.ttl > 1
    }
}

/// The 16-bit word of time to live and protocol as it lies in memory, before and after a decrement: what the
/// header's checksum must be told.
#[inline(always)]
pub const fn ttl_words(ttl: u8, new_ttl: u8, protocol: u8) -> (u16, u16) {
    (u16::from_ne_bytes([ttl, protocol]), u16::from_ne_bytes([new_ttl, protocol]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; 20] {
        [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 10]
    }

    #[test]
    fn a_plain_header_is_read() {
        let ip = Ipv4::parse(&header(), 40).unwrap();
        assert_eq!(ip.source_be.to_ne_bytes(), [192, 0, 2, 1]);
        assert_eq!(ip.destination_be.to_ne_bytes(), [192, 0, 2, 10]);
        assert_eq!((ip.protocol, ip.ttl, ip.fragment, ip.options), (6, 64, false, false));
    }

    #[test]
    fn contradictory_headers_are_refused() {
        let refuse = |change: fn(&mut [u8; 20]), length| {
            let mut h = header();
            change(&mut h);
            assert_eq!(Ipv4::parse(&h, length), Err(Reason::Malformed));
        };
        refuse(|h| h[0] = 0x65, 40);
        refuse(|h| h[0] = 0x44, 40);
        refuse(|h| h[0] = 0x4f, 40);
        refuse(|h| h[3] = 19, 40);
        refuse(|_| (), 39);
        assert!(Ipv4::parse(&header(), 60).is_ok(), "Ethernet padding is allowed");
    }

    #[test]
    fn every_kind_of_fragment_is_seen_and_dont_fragment_is_none() {
        for (high, low, fragment) in
            [(0x40, 0, false), (0, 0, false), (0x20, 0, true), (0, 1, true), (0x1f, 0, true), (0x21, 9, true)]
        {
            let mut h = header();
            (h[6], h[7]) = (high, low);
            assert_eq!(Ipv4::parse(&h, 40).unwrap().fragment, fragment, "{high:#x} {low:#x}");
        }
    }

    #[test]
    fn ttl_of_one_is_not_forwarded() {
        for (ttl, expected) in [(0, false), (1, false), (2, true), (255, true)] {
            let mut h = header();
            h[8] = ttl;
            assert_eq!(Ipv4::parse(&h, 40).unwrap().may_be_forwarded(), expected);
        }
    }
}
