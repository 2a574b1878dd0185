//! IPv6 extension headers (RFC 8200, 4), one step at a time.
//!
//! The caller loads the 8 bytes at the current offset and asks [`step`] what they are, at most [`MAX_STEPS`]
//! times; what then still is no transport is refused. It starts with the fixed header's next header at offset 40.

/// Hop-by-hop options. Allowed directly behind the fixed header only.
pub const HOP_BY_HOP: u8 = 0;
/// Routing.
pub const ROUTING: u8 = 43;
/// Fragment.
pub const FRAGMENT: u8 = 44;
/// Authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Nothing follows.
pub const NO_NEXT: u8 = 59;
/// Destination options.
pub const DESTINATION: u8 = 60;

/// How many extension headers a packet may have. Senders use one or two; hop-by-hop, destination options,
/// routing and fragment are all that RFC 8200 recommends before a transport.
pub const MAX_STEPS: u32 = 4;

/// What a fragment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What follows it, in the first fragment.
    pub next_header: u8,
    /// Where in the fragmentable part this piece begins, in bytes; a multiple of 8.
    pub offset_bytes: u32,
    /// Another piece follows.
    pub more: bool,
    /// Which packet the piece belongs to, network order.
    pub id_be: u32,
}

/// What a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No extension header: the transport, or a protocol without ports.
    Final,
    /// An extension header to skip.
    Skip {
        /// What follows it.
        next_header: u8,
        /// Its own length.
        length_bytes: u32,
    },
    /// A fragment header, 8 bytes long. In the first fragment (`offset_bytes` 0) the walk goes on behind it.
    Fragment(Fragment),
    /// Must not be passed on as it is: a routing header that has still to be followed, so that the
    /// destination is not the last one and transport checksums are over another; or hop-by-hop options that are
    /// not first.
    Refused,
}

/// What the header of type `number` is. `header` is its first 8 bytes; `first` says that it stands directly
/// behind the fixed header.
#[inline(always)]
pub const fn step(number: u8, first: bool, header: &[u8; 8]) -> Step {
    let (next_header, units) = (header[0], header[1] as u32);
    match number {
        HOP_BY_HOP if !first => Step::Refused,
        ROUTING if header[3] != 0 => Step::Refused,
        HOP_BY_HOP | ROUTING | DESTINATION => Step::Skip { next_header, length_bytes: (units + 1) * 8 },
        // Counts in units of four, where the others count eight.
        AUTHENTICATION => Step::Skip { next_header, length_bytes: (units + 2) * 4 },
        FRAGMENT => {
            let word = u16::from_be_bytes([header[2], header[3]]);
            Step::Fragment(Fragment {
                next_header,
                offset_bytes: (word & 0xfff8) as u32,
                more: word & 1 != 0,
                id_be: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
            })
        }
        _ => Step::Final,
    }
}

#[cfg(test)]
mod tests;
