//! Map keys and values shared by the eBPF programs and user space, and the meaning of their bits.
//!
//! Everything is `#[repr(C)]` with explicit padding, without `bool`, enum or `Option`; sizes are asserted at
//! compile time, because a running program and a newer daemon may share pinned maps. A change of any layout
//! raises [`SCHEMA`].
//!
//! Byte order: addresses and ports are kept as the packet has them (network order in memory) in fields
//! named so; everything else is in host order.

#![no_std]
#![warn(missing_docs)]

pub mod address;
pub mod age;
pub mod checksum;
pub mod event;
pub mod flow;
pub mod hop;
pub mod learn;
pub mod lease;
pub mod map;
#[cfg(feature = "user")]
mod pod;
pub mod reason;
pub mod service;
pub mod snat;
pub mod state;
pub mod timeout;

#[cfg(feature = "user")]
pub use pod::KernelAddress;

/// Version of all layouts here: part of the path of pinned maps.
pub const SCHEMA: u32 = 4;

/// IANA number of TCP.
pub const TCP: u8 = 6;

/// IANA number of UDP.
pub const UDP: u8 = 17;

/// IANA number of SCTP.
pub const SCTP: u8 = 132;

/// IANA number of ICMP.
pub const ICMP: u8 = 1;

/// IANA number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Asserts the size of a shared type at compile time.
macro_rules! assert_size {
    ($type:ty, $size:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        const _: () = assert!(core::mem::align_of::<$type>() <= 8);
    };
}
pub(crate) use assert_size;
