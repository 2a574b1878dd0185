//! What differs between the two address families, so that the rest is written once: the maps' names, and how an
//! address lies in a key. Everything that is generic over a family is generic over its address type.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use lockstep_abi::KernelAddress;
use lockstep_abi::map as names;
use lockstep_model::protocol::Family;

use crate::age::AgePrograms;
use crate::learn::{Learner, Learners};
use crate::maps::{FamilyMaps, Maps};

/// An address of one family, as packets have it.
pub(crate) trait KernelFamily: KernelAddress {
    /// Which.
    const FAMILY: Family;
    /// Its maps' names.
    const NAMES: Names;

    /// `None`: of the other family.
    fn of_ip(ip: IpAddr) -> Option<Self>;

    fn ip(self) -> IpAddr;

    fn maps(maps: &Maps) -> &FamilyMaps<Self>;

    fn age_program(programs: &AgePrograms) -> &OwnedFd;

    fn learner(learners: &Learners) -> &Mutex<Learner<Self>>;
}

/// The maps that each family has of its own.
pub(crate) struct Names {
    pub(crate) flows: &'static str,
    pub(crate) address_index: &'static str,
    pub(crate) transit: &'static str,
    pub(crate) services: &'static str,
    pub(crate) ranges: &'static str,
    pub(crate) snat_sources: &'static str,
    pub(crate) guards: &'static str,
}

/// IPv4.
pub(crate) type V4 = u32;
/// IPv6.
pub(crate) type V6 = [u32; 4];

impl KernelFamily for V4 {
    const FAMILY: Family = Family::V4;
    const NAMES: Names = Names {
        flows: names::FLOWS4,
        address_index: names::ADDRESS_INDEX4,
        transit: names::TRANSIT4,
        services: names::SERVICES4,
        ranges: names::RANGES4,
        snat_sources: names::SNAT_SOURCES4,
        guards: names::GUARDS4,
    };

    fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Some(u32::from_ne_bytes(v4.octets())),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.to_ne_bytes()))
    }

    fn maps(maps: &Maps) -> &FamilyMaps<Self> {
        &maps.v4
    }

    fn age_program(programs: &AgePrograms) -> &OwnedFd {
        &programs.v4
    }

    fn learner(learners: &Learners) -> &Mutex<Learner<Self>> {
        &learners.v4
    }
}

impl KernelFamily for V6 {
    const FAMILY: Family = Family::V6;
    const NAMES: Names = Names {
        flows: names::FLOWS6,
        address_index: names::ADDRESS_INDEX6,
        transit: names::TRANSIT6,
        services: names::SERVICES6,
        ranges: names::RANGES6,
        snat_sources: names::SNAT_SOURCES6,
        guards: names::GUARDS6,
    };

    fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(wide(IpAddr::V6(v6))),
        }
    }

    fn ip(self) -> IpAddr {
        ip_of_wide(self, 6)
    }

    fn maps(maps: &Maps) -> &FamilyMaps<Self> {
        &maps.v6
    }

    fn age_program(programs: &AgePrograms) -> &OwnedFd {
        &programs.v6
    }

    fn learner(learners: &Learners) -> &Mutex<Learner<Self>> {
        &learners.v6
    }
}

/// How keys and values of both families number them.
pub(crate) const fn number(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// An address where a map holds both families: IPv4 in the first word.
pub(crate) fn wide(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let word =
                |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
            [word(0), word(4), word(8), word(12)]
        }
    }
}

/// Back, given which family it is.
pub(crate) fn ip_of_wide(address: [u32; 4], family: u32) -> IpAddr {
    if family == 4 {
        return address[0].ip();
    }
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(4).zip(address) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::V6(Ipv6Addr::from(octets))
}

/// An address and a port of a key.
pub(crate) fn socket<A: KernelFamily>(address: A, port_be: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), u16::from_be(port_be))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_keys_as_in_packets() {
        let v4: IpAddr = "192.0.2.77".parse().unwrap();
        let v6: IpAddr = "2001:db8::a:1".parse().unwrap();
        assert_eq!(V4::of_ip(v4).unwrap().to_ne_bytes(), [192, 0, 2, 77]);
        assert_eq!(wide(v4)[0], V4::of_ip(v4).unwrap());
        assert_eq!(V6::of_ip(v6).unwrap()[0].to_ne_bytes(), [0x20, 1, 0x0d, 0xb8]);
        assert_eq!(V6::of_ip(v6).unwrap()[3].to_ne_bytes(), [0, 0xa, 0, 1]);
        for (ip, family) in [(v4, 4), (v6, 6)] {
            assert_eq!(ip_of_wide(wide(ip), family), ip);
            assert_eq!(number(Family::of(ip)), family);
        }
        assert_eq!((V4::of_ip(v6), V6::of_ip(v4)), (None, None));
        assert_eq!(V6::of_ip(v6).unwrap().ip(), v6);
    }
}
