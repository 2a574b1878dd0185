//! Between kernel entries and the model's records. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lockstep_abi::event::FlowEvent;
use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_abi::{state, timeout};
use lockstep_model::flow::{FlowKey, FlowKind, FlowRecord, FlowStamp, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, ServiceId};
use lockstep_model::protocol::{Family, Protocol};

use crate::clock::KernelInstant;

/// The kernel's key of a flow, as the client sends. `None`: IPv6, which this version has no table for.
pub(crate) fn kernel_key(key: &FlowKey) -> Option<FlowKey4> {
    let (SocketAddr::V4(client), SocketAddr::V4(service)) = (key.client, key.service) else { return None };
    Some(FlowKey4 {
        source_be: address_be(*client.ip()),
        destination_be: address_be(*service.ip()),
        source_port_be: client.port().to_be(),
        destination_port_be: service.port().to_be(),
        protocol: key.protocol.number(Family::V4),
        pad: [0; 3],
    })
}

/// The model's key. `None`: not a protocol of this version.
pub(crate) fn model_key(key: &FlowKey4) -> Option<FlowKey> {
    Some(FlowKey {
        client: socket(key.source_be, key.source_port_be),
        service: socket(key.destination_be, key.destination_port_be),
        protocol: Protocol::from_number(key.protocol)?,
    })
}

/// An original entry as other nodes should know it.
pub(crate) fn of_entry(value: &FlowValue4, group: GroupId, now: KernelInstant) -> Option<FlowRecord> {
    let bits = state::bits(value.state);
    Some(FlowRecord {
        key: model_key(&value.key)?,
        group,
        service: ServiceId(value.service),
        endpoint: EndpointId(value.endpoint),
        endpoint_address: socket(value.twin.source_be, value.twin.source_port_be),
        source: None,
        kind: FlowKind::Nat,
        version: version(value.birth_ns, state::n(value.state)),
        state: flow_state(bits)?,
        state_bits: bits & state::REPLICATED,
        remaining: remaining(value.key.protocol, bits, value.last_seen_ns, now),
    })
}

/// An event, likewise.
pub(crate) fn of_event(event: &FlowEvent, now: KernelInstant) -> Option<FlowRecord> {
    Some(FlowRecord {
        key: model_key(&event.key)?,
        group: GroupId(event.group),
        service: ServiceId(event.service),
        endpoint: EndpointId(event.endpoint),
        endpoint_address: socket(event.endpoint_be, event.endpoint_port_be),
        source: None,
        kind: FlowKind::Nat,
        version: version(event.birth_ns, event.n),
        state: flow_state(event.state_bits)?,
        state_bits: event.state_bits & state::REPLICATED,
        remaining: remaining(event.key.protocol, event.state_bits, event.now_ns, now),
    })
}

/// What a table holds for a key, for the comparison of I6.
pub(crate) fn stamp(value: &FlowValue4) -> FlowStamp {
    FlowStamp { epoch: Epoch(value.epoch), version: version(value.birth_ns, state::n(value.state)) }
}

/// The `last_seen_ns` of an entry with this much time left.
pub(crate) fn last_seen(record: &FlowRecord, now: KernelInstant) -> u64 {
    let idle = timeout::idle_ns(record.key.protocol.number(Family::V4), record.state_bits);
    let remaining = u64::try_from(record.remaining.as_nanos()).unwrap_or(u64::MAX).min(idle);
    now.0.saturating_sub(idle - remaining)
}

pub(crate) fn version(birth_ns: u64, n: u32) -> FlowVersion {
    FlowVersion { birth: birth_ns, n: u64::from(n) }
}

pub(crate) fn address_be(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// The IPv4 address as the packet has it; `None` for IPv6.
pub(crate) fn ip_be(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(v4) => Some(address_be(v4)),
        IpAddr::V6(_) => None,
    }
}

fn socket(address_be: u32, port_be: u16) -> SocketAddr {
    let address = Ipv4Addr::from(address_be.to_ne_bytes());
    SocketAddr::V4(SocketAddrV4::new(address, u16::from_be(port_be)))
}

fn remaining(protocol: u8, bits: u32, last_seen_ns: u64, now: KernelInstant) -> Duration {
    let idle = timeout::idle_ns(protocol, bits);
    Duration::from_nanos(idle.saturating_sub(now.0.saturating_sub(last_seen_ns)))
}

fn flow_state(bits: u32) -> Option<FlowState> {
    Some(match state::phase(bits) {
        state::NEW => FlowState::New,
        state::ESTABLISHED => FlowState::Established,
        state::CLOSING => FlowState::Closing,
        state::CLOSED => FlowState::Closed,
        state::RESET_PENDING => FlowState::ResetPending,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use lockstep_abi::flow::NewFlow;

    use super::*;

    fn key() -> FlowKey {
        FlowKey {
            client: "192.0.2.77:40123".parse().unwrap(),
            service: "192.0.2.10:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn keys_survive_both_ways_and_shards_agree() {
        let kernel = kernel_key(&key()).unwrap();
        assert_eq!(model_key(&kernel), Some(key()));
        assert_eq!(kernel.shard(), u32::from(key().shard()));
        assert_eq!(kernel.source_be.to_ne_bytes(), [192, 0, 2, 77]);
        assert_eq!(kernel.destination_port_be.to_ne_bytes(), [0, 80]);
    }

    #[test]
    fn time_left_survives_the_way_into_an_entry_and_back() {
        let now = KernelInstant(10_000 * 1_000_000_000);
        let flow = NewFlow {
            key: kernel_key(&key()).unwrap(),
            endpoint_be: address_be(Ipv4Addr::new(10, 0, 0, 11)),
            endpoint_port_be: 8080u16.to_be(),
            address_index: 3,
            state_bits: state::ESTABLISHED | state::SEEN,
            n: 2,
            now_ns: now.0,
            birth_ns: 5,
            epoch: 7,
            service: 21,
            endpoint: 34,
            mark: 1,
            flags: 0,
            generation: 9,
        };
        let fresh = of_entry(&flow.original(), GroupId(2), now).unwrap();
        assert_eq!(fresh.remaining, Duration::from_secs(3600));
        assert_eq!(fresh.endpoint_address, "10.0.0.11:8080".parse().unwrap());
        assert_eq!(fresh.version, FlowVersion { birth: 5, n: 2 });
        assert_eq!(fresh.state, FlowState::Established);

        let later = now.plus(Duration::from_secs(600));
        let aged = of_entry(&flow.original(), GroupId(2), later).unwrap();
        assert_eq!(aged.remaining, Duration::from_secs(3000));
        assert_eq!(last_seen(&aged, later), now.0);
    }
}
