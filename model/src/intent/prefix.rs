//! Prefixes of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::protocol::Family;

/// An IPv4 or IPv6 prefix. The bits behind `length` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// The first address.
    pub address: IpAddr,
    /// 0-32, or 0-128.
    pub length: u8,
}

impl Prefix {
    /// What a text may be.
    pub const FORMS: &str =
        "a prefix such as 10.0.0.0/8 or 2001:db8::/32, with no bits set behind its length";

    /// `None`: the length is too long, or a bit behind it is set.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        Some(Prefix { address, length }).filter(Prefix::is_valid)
    }

    /// Whether it is what [`Self::new`] makes.
    pub fn is_valid(&self) -> bool {
        self.length <= self.family().bits() && mask(self.address, self.length) == self.address
    }

    /// Every address of a family.
    pub const fn any(family: Family) -> Self {
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Prefix { address, length: 0 }
    }

    /// One address.
    pub const fn host(address: IpAddr) -> Self {
        Prefix { address, length: Family::of(address).bits() }
    }

    /// IPv4 or IPv6.
    pub const fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Whether it is one address.
    pub const fn is_host(&self) -> bool {
        self.length == self.family().bits()
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && mask(address, self.length) == self.address
    }

    /// Whether every address of `other` is in it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

/// The address with the bits behind `length` cleared.
fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = text.split_once('/').ok_or(())?;
        if !length.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(());
        }
        let address = address.parse().map_err(|_| ())?;
        Prefix::new(address, length.parse().map_err(|_| ())?).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap_or_else(|()| panic!("{text} is a prefix"))
    }

    #[test]
    fn what_is_read_is_shown() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "::/0", "2001:db8::/32", "2001:db8::1/128"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        let wrong =
            ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::1/64", "::/129"];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Prefix>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn it_contains_what_shares_its_bits() {
        let net = prefix("10.1.0.0/16");
        assert!(net.contains("10.1.255.255".parse().unwrap()));
        assert!(!net.contains("10.2.0.0".parse().unwrap()));
        assert!(!net.contains("::a01:0".parse().unwrap()));
        assert!(net.covers(&prefix("10.1.2.0/24")) && net.covers(&net));
        assert!(!net.covers(&prefix("10.0.0.0/8")) && !net.covers(&prefix("10.2.0.0/24")));
        assert!(Prefix::any(Family::V6).covers(&prefix("2001:db8::1/128")));
        assert!(!Prefix::any(Family::V4).covers(&prefix("2001:db8::1/128")));
        assert!(Prefix::host("192.0.2.1".parse().unwrap()).is_host());
    }
}
