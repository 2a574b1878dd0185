//! Ranges of ports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Ports from `first` to `last`, both included. 0-0 where there are no ports (ICMP echo).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, no lower than `first`.
    pub last: u16,
}

impl PortRange {
    /// `*`: every port.
    pub const ANY: PortRange = PortRange { first: 1, last: u16::MAX };

    /// No ports: of a service that has ICMP echo only.
    pub const NONE: PortRange = PortRange { first: 0, last: 0 };

    /// What a text may be.
    pub const FORMS: &str = "1-65535, a range such as \"1000-1999\", or \"*\"";

    /// One port.
    pub const fn single(port: u16) -> Self {
        PortRange { first: port, last: port }
    }

    /// A range of ports from 1, or [`Self::NONE`].
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        let range = PortRange { first, last };
        if range.is_valid() { Some(range) } else { None }
    }

    /// Whether it is what [`Self::new`] makes.
    pub const fn is_valid(self) -> bool {
        (self.first > 0 && self.first <= self.last) || (self.first == 0 && self.last == 0)
    }

    /// Whether it is one port.
    pub const fn is_single(self) -> bool {
        self.first == self.last && self.first > 0
    }

    /// Whether `port` is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether any port is in both.
    pub const fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PortRange::ANY => f.write_str("*"),
            PortRange { first, last } if first == last => first.fmt(f),
            PortRange { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl FromStr for PortRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // `parse` takes a leading plus sign, which no port has.
        let port = |text: &str| {
            text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+')).ok_or(())
        };
        if text == "*" {
            return Ok(PortRange::ANY);
        }
        match text.split_once('-') {
            None => port(text).map(PortRange::single),
            Some((first, last)) => PortRange::new(port(first)?, port(last)?).ok_or(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown() {
        for text in ["1", "443", "65535", "1000-1999", "*"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        assert_eq!("7-7".parse(), Ok(PortRange::single(7)));
        assert_eq!("1-65535".parse(), Ok(PortRange::ANY));
        for wrong in ["", "0", "65536", "-1", "1-", "-", "2-1", "0-5", "1-2-3", "+1", "a", "1 - 2", "**"] {
            assert_eq!(wrong.parse::<PortRange>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn ranges_overlap_where_a_port_is_in_both() {
        let range = |first, last| PortRange::new(first, last).unwrap();
        assert!(range(1, 10).overlaps(range(10, 20)) && range(10, 20).overlaps(range(1, 10)));
        assert!(!range(1, 9).overlaps(range(10, 20)) && !range(10, 20).overlaps(range(1, 9)));
        assert!(!PortRange::ANY.overlaps(PortRange::NONE));
        assert!(PortRange::NONE.overlaps(PortRange::NONE));
        assert!(PortRange::ANY.contains(1) && !PortRange::ANY.contains(0));
    }
}
