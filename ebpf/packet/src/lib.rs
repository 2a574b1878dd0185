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
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod mtu;
pub mod nd;
pub mod quoted;
pub mod sctp;
pub mod select;
pub mod sum;
pub mod transition;

/// Offsets in an Ethernet frame with an IPv4 packet that has no options.
pub mod offset {
    /// Destination MAC, then source MAC.
    pub const ETHERNET: u32 = 0;
    /// The IPv4 header, or the ARP packet.
    pub const NETWORK: u32 = 14;
    /// Time to live, and the protocol behind it.
    pub const TTL: u32 = NETWORK + 8;
    /// Header checksum.
    pub const IPV4_CHECKSUM: u32 = NETWORK + 10;
    /// Source address, and the destination behind it.
    pub const ADDRESSES: u32 = NETWORK + 12;
    /// TCP, UDP or ICMP header.
    pub const TRANSPORT: u32 = NETWORK + 20;
    /// TCP's data offset, and the flags behind it.
    pub const TCP_FLAGS: u32 = TRANSPORT + 12;
    /// TCP's checksum.
    pub const TCP_CHECKSUM: u32 = TRANSPORT + 16;
    /// UDP's checksum.
    pub const UDP_CHECKSUM: u32 = TRANSPORT + 6;
    /// ICMP's checksum.
    pub const ICMP_CHECKSUM: u32 = TRANSPORT + 2;
}
