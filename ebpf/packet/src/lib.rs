//! Packet logic without packets' memory: what headers mean, what a state becomes, which endpoint is chosen.
//!
//! Compiled into the eBPF programs and on the host alike, so that all of it is tested without a kernel. It
//! reads fixed-size byte arrays only, allocates nothing, and keeps no state.

#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
mod bytes;
pub mod crc32c;
pub mod encap;
pub mod extension;
pub mod fragment;
pub mod header;
pub mod icmp;
pub mod icmp6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod mtu;
pub mod nd;
pub mod options;
pub mod port;
pub mod quoted;
pub mod sctp;
pub mod select;
pub mod sum;
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
