//! Packet logic without packets' memory: what headers mean, what a state becomes, which endpoint is chosen.
//!
//! Compiled into the eBPF programs and on the host alike, so that all of it is tested without a kernel. It
//! reads fixed-size byte arrays only, allocates nothing, and keeps no state.

#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod icmp;
pub mod ip;
pub mod l4;
pub mod port;
pub mod select;
pub mod transition;

/// Offsets in an Ethernet frame.
pub mod offset {
    /// Destination MAC, then source MAC.
    pub const ETHERNET: u32 = 0;
    /// The IP header, or the ARP packet.
    pub const NETWORK: u32 = 14;
    /// TCP's checksum, in its header.
    pub const TCP_CHECKSUM: u32 = 16;
    /// UDP's checksum, in its header.
    pub const UDP_CHECKSUM: u32 = 6;
}
