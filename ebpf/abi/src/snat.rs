//! Rules for what leaves: source translation of connections that begin behind the balancer.
//!
//! [`crate::map::SNAT_SOURCES4`] finds, by the longest prefix of the source, the set of rules that may apply to
//! it, in the order of their priority. A set is immutable: it is written to a free slot and then named by one
//! write (I11).

use crate::assert_size;

/// Rules of a set.
pub const SET_RULES: usize = 16;
/// Addresses that a rule may translate to.
pub const RULE_ADDRESSES: usize = 16;

/// [`SnatRule::action`]: to one of `to`, on a port of its blocks.
pub const SNAT: u32 = 1;
/// [`SnatRule::action`]: to the first of `to`, the port kept.
pub const STATIC: u32 = 2;
/// [`SnatRule::action`]: not at all.
pub const EXEMPT: u32 = 3;

/// One rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnatRule {
    /// Its id, which stands as the service's in flows.
    pub id: u64,
    /// Where to: after `destination_mask`; network order, IPv4 in the first word.
    pub destination: [u32; 4],
    /// Bits of the destination that count.
    pub destination_mask: [u32; 4],
    /// Lowest destination port, host order.
    pub first_port: u16,
    /// Highest.
    pub last_port: u16,
    /// IANA number; 0: any.
    pub protocol: u32,
    /// [`SNAT`], [`STATIC`], [`EXEMPT`].
    pub action: u32,
    /// How many of `to` count.
    pub to_count: u32,
    /// Indexes into [`crate::map::ADDRESSES`].
    pub to: [u32; RULE_ADDRESSES],
}
assert_size!(SnatRule, 120);

/// The rules for one source prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatSet {
    /// How many of `rules` count; 0 in a free slot.
    pub count: u32,
    /// Zero.
    pub pad: u32,
    /// In the order they are tried.
    pub rules: [SnatRule; SET_RULES],
}
assert_size!(SnatSet, 1928);
