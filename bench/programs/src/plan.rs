//! What a wrapper is told: included by these programs and by the benchmark alike.

/// Bytes that a wrapper writes anew: Ethernet, IP and TCP header, and some payload up to a whole word.
pub(crate) const HEADER_V4: usize = 56;
/// The same for IPv6.
pub(crate) const HEADER_V6: usize = 80;
/// Words of the larger one.
pub(crate) const HEADER_WORDS: usize = HEADER_V6 / 8;

/// [`Plan::varied`]: flow i differs in the packet's source, as a client's packets do.
pub(crate) const SOURCE: u32 = 0;
/// [`Plan::varied`]: flow i differs in the packet's destination, as packets to a client do.
pub(crate) const DESTINATION: u32 = 1;

/// Flows that share one port; flow i has the low half of i in its address and the rest in its port.
pub(crate) const FLOWS_PER_PORT: u32 = 1 << 16;

/// One run of a wrapper.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// The packet of flow 0. Its IPv4 identification and the low half of its TCP sequence number are the
    /// complements of what varies, so that every checksum stays right.
    pub(crate) header: [u64; HEADER_WORDS],
    /// Flows less one; their number is a power of two.
    pub(crate) mask: u32,
    /// [`SOURCE`] or [`DESTINATION`].
    pub(crate) varied: u32,
    /// The varied port of flow 0, host order.
    pub(crate) first_port: u32,
    /// Odd: the order in which flows come. 1 is one after the other.
    pub(crate) step: u32,
}

impl Plan {
    /// The port and the low half of the address of flow `i`, host order.
    #[inline(always)]
    pub(crate) fn varied_fields(&self, i: u32) -> (u16, u16) {
        ((self.first_port + i / FLOWS_PER_PORT) as u16, i as u16)
    }
}
