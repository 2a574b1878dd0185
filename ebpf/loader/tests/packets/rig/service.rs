//! The demo service, in whatever version a test wants.

use std::net::IpAddr;

use lockstep_abi::map;
use lockstep_abi::service::{
    Endpoint, GuardKey, GuardValue, MISS_DROP, NAT, PositionKey, ROUND_ROBIN, RangeKey, SYNC_IMMEDIATE,
    ServiceKey, ServiceRef, ServiceVersion, TargetValue, Timeouts,
};
use lockstep_abi::timeout;

use crate::case::{FIRST_ENDPOINT, Family, wide};
use crate::frame::{TCP, UDP};
use crate::rig::{FLOATING_INDEX, Rig, SERVICE, SERVICE_SLOT, SLOT, VIP_INDEX};

/// The slot of the version that tests begin with.
pub(crate) const VERSION: u32 = 3;
/// An endpoint's id is this and its number.
pub(crate) const FIRST_ENDPOINT_ID: u64 = 100;
/// An endpoint's target is this and its number.
pub(crate) const FIRST_TARGET: u32 = 30;

/// A version of the demo service on port 80 of TCP and UDP.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) slot: u32,
    /// Number and weight.
    pub(crate) endpoints: Vec<(u8, u32)>,
    /// Whether the endpoints get the port that the client asked for.
    pub(crate) keep_port: bool,
    /// All but what follows from the endpoints.
    pub(crate) version: ServiceVersion,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            slot: VERSION,
            endpoints: vec![(1, 1), (2, 1), (3, 1)],
            keep_port: false,
            version: ServiceVersion {
                service: SERVICE,
                revision: 1,
                algorithm: ROUND_ROBIN,
                sync: SYNC_IMMEDIATE,
                mode: NAT,
                on_miss: MISS_DROP,
                weight_stride: 1,
                snat_count: 1,
                snat: [FLOATING_INDEX, 0, 0, 0],
                ..ServiceVersion::default()
            },
        }
    }
}

impl Service {
    /// With these endpoints, all of one weight.
    pub(crate) fn over(endpoints: &[u8]) -> Self {
        Self { endpoints: endpoints.iter().map(|n| (*n, 1)).collect(), ..Self::default() }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut ServiceVersion)) -> Self {
        change(&mut self.version);
        self
    }
}

pub(crate) fn target(n: u8) -> u32 {
    FIRST_TARGET + u32::from(n)
}

/// The number of the endpoint with this address.
pub(crate) fn endpoint_of(address: IpAddr) -> u8 {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    last - FIRST_ENDPOINT
}

/// Names a version, as of a port of the VIP.
pub(crate) fn reference(slot: u32) -> ServiceRef {
    ServiceRef {
        version_slot: slot,
        service_slot: SERVICE_SLOT as u16,
        address_index: VIP_INDEX as u16,
        service: SERVICE,
    }
}

impl Rig {
    /// Writes a version and makes it the service's.
    pub(crate) fn publish(&self, service: &Service) {
        self.write_version(service);
        for protocol in [TCP, UDP] {
            self.name(80, protocol, service.slot);
        }
    }

    /// Writes a version that no service names yet.
    pub(crate) fn write_version(&self, service: &Service) {
        let slot = service.slot;
        let mut cumulative = 0;
        for (position, (n, weight)) in (0u32..).zip(&service.endpoints) {
            let (address, port) = self.net.endpoint(*n);
            cumulative += weight;
            let value = Endpoint {
                id: FIRST_ENDPOINT_ID + u64::from(*n),
                address: wide(address),
                port_be: if service.keep_port { 0 } else { port.to_be() },
                family: self.net.number() as u16,
                target: target(*n),
                weight: *weight,
                cumulative,
                ramp_start_ns: 0,
                ramp_ns: 0,
            };
            self.table(map::ENDPOINTS).put(&(slot * map::MAX_ENDPOINTS + position), &value);
            let place = PositionKey { endpoint: value.id, version_slot: slot, pad: 0 };
            self.table(map::POSITIONS).put(&place, &position);
            let value = TargetValue {
                endpoint: value.id,
                address: value.address,
                family: self.net.number(),
                outer_source: FLOATING_INDEX,
            };
            self.table(map::TARGETS).put(&target(*n), &value);
        }
        for n in [1, 2, 3, 21, 22] {
            self.guard(n);
        }
        let version = ServiceVersion {
            endpoint_count: service.endpoints.len() as u32,
            weight_total: cumulative,
            family: self.net.number(),
            ..service.version
        };
        self.table(map::VERSIONS).put(&slot, &version);
        let timeouts = Timeouts { service: SERVICE, ..timeout::DEFAULT };
        self.table(map::SERVICE_TIMEOUTS).put(&SERVICE_SLOT, &timeouts);
    }

    fn guard(&self, n: u8) {
        let port = self.net.endpoint(n).1;
        for (protocol, port) in [(TCP, port), (UDP, port), (0, 0)] {
            self.guard_at(n, protocol, port);
        }
    }

    /// Says that an endpoint answers from this port; 0: from any.
    pub(crate) fn guard_at(&self, n: u8, protocol: u8, port: u16) {
        let value = GuardValue { lease_slot: SLOT, pad: 0 };
        let (address, port_be) = (wide(self.net.endpoint(n).0), port.to_be());
        match self.net {
            Family::V4 => {
                let key = GuardKey { address_be: address[0], port_be, protocol, pad: 0 };
                self.table(map::GUARDS4).put(&key, &value);
            }
            Family::V6 => {
                let key = GuardKey { address_be: address, port_be, protocol, pad: 0 };
                self.table(map::GUARDS6).put(&key, &value);
            }
        }
    }

    /// Makes a version that of a port of the VIP.
    pub(crate) fn name(&self, port: u16, protocol: u8, slot: u32) {
        self.name_at(self.net.vip(), port, protocol, slot);
    }

    /// The same of any address.
    pub(crate) fn name_at(&self, address: IpAddr, port: u16, protocol: u8, slot: u32) {
        self.name_by(address, port, protocol, reference(slot));
    }

    /// Makes what is referred to that of a port of an address.
    pub(crate) fn name_by(&self, address: IpAddr, port: u16, protocol: u8, value: ServiceRef) {
        let (address, port_be) = (wide(address), port.to_be());
        match self.net {
            Family::V4 => {
                let key = ServiceKey { vip_be: address[0], port_be, protocol, pad: 0 };
                self.table(map::SERVICES4).put(&key, &value);
            }
            Family::V6 => {
                let key = ServiceKey { vip_be: address, port_be, protocol, pad: 0 };
                self.table(map::SERVICES6).put(&key, &value);
            }
        }
    }

    /// Makes a version that of the ports of the VIP that begin with the first bits of `port`.
    pub(crate) fn name_range(&self, port: u16, bits: u32, protocol: u8, slot: u32) {
        use aya::maps::lpm_trie::Key;
        let value = reference(slot);
        let (address, port_be) = (wide(self.net.vip()), port.to_be());
        // Protocol and padding stand between the address and the port.
        let bits = self.net.bits() + 16 + bits;
        match self.net {
            Family::V4 => {
                let key = RangeKey { vip_be: address[0], protocol, pad: 0, port_be };
                self.table(map::RANGES4).put(&Key::new(bits, key), &value);
            }
            Family::V6 => {
                let key = RangeKey { vip_be: address, protocol, pad: 0, port_be };
                self.table(map::RANGES6).put(&Key::new(bits, key), &value);
            }
        }
    }

    /// Packs a Maglev table of positions.
    pub(crate) fn maglev(&self, slot: u32, table: &[u16]) {
        let maglev = self.table::<u32, u64>(map::MAGLEV);
        for (word, positions) in (0u32..).zip(table.chunks(4)) {
            let packed = (0..)
                .zip(positions)
                .fold(0, |packed, (i, position)| packed | u64::from(*position) << (16 * i));
            maglev.put(&(slot * map::MAGLEV_WORDS + word), &packed);
        }
    }
}
