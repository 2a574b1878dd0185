//! Between kernel entries and the model's records. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use lockstep_abi::event::FlowEvent;
use lockstep_abi::flow::{
    FORWARD_DSR_GUE, FORWARD_DSR_IPIP, FORWARD_DSR_L2, FORWARD_NAT, FORWARDING, FlowKey as KernelKey,
    FlowValue,
};
use lockstep_abi::service::Timeouts;
use lockstep_abi::{state, timeout};
use lockstep_model::flow::{FlowKey, FlowKind, FlowRecord, FlowStamp, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, ServiceId};
use lockstep_model::protocol::Protocol;

use crate::clock::KernelInstant;
use crate::family::{KernelFamily, socket};
use crate::targets::Targets;

/// The kernel's key of a flow, as the client sends. `None`: of the other family, or of both.
pub(crate) fn kernel_key<A: KernelFamily>(key: &FlowKey) -> Option<KernelKey<A>> {
    Some(KernelKey {
        source_be: A::of_ip(key.client.ip())?,
        destination_be: A::of_ip(key.service.ip())?,
        source_port_be: key.client.port().to_be(),
        destination_port_be: key.service.port().to_be(),
        protocol: key.protocol.number(A::FAMILY),
        pad: [0; 3],
    })
}

/// What the endpoint answers with. With direct return it answers the client itself, and nothing comes back here.
pub(crate) fn kernel_reply_key<A: KernelFamily>(
    record: &FlowRecord,
    key: &KernelKey<A>,
) -> Option<KernelKey<A>> {
    if record.kind != FlowKind::Nat {
        return Some(key.reversed());
    }
    let endpoint = record.endpoint_address;
    let source = record.source.unwrap_or(record.key.client);
    Some(KernelKey {
        source_be: A::of_ip(endpoint.ip())?,
        destination_be: A::of_ip(source.ip())?,
        // An echo has one identifier, which stands on the side that asks.
        source_port_be: if record.key.protocol.has_ports() { endpoint.port().to_be() } else { 0 },
        destination_port_be: source.port().to_be(),
        protocol: key.protocol,
        pad: [0; 3],
    })
}

/// The model's key. `None`: not a protocol of this version.
pub(crate) fn model_key<A: KernelFamily>(key: &KernelKey<A>) -> Option<FlowKey> {
    Some(FlowKey {
        client: socket(key.source_be, key.source_port_be),
        service: socket(key.destination_be, key.destination_port_be),
        protocol: Protocol::from_number(key.protocol)?,
    })
}

/// How packets of a flow leave, as its entries say it.
pub(crate) fn forwarding(kind: FlowKind) -> u32 {
    match kind {
        FlowKind::Nat => FORWARD_NAT,
        FlowKind::DsrL2 => FORWARD_DSR_L2,
        FlowKind::DsrIpip => FORWARD_DSR_IPIP,
        FlowKind::DsrGue => FORWARD_DSR_GUE,
    }
}

fn kind(flags: u32) -> FlowKind {
    match flags & FORWARDING {
        FORWARD_DSR_L2 => FlowKind::DsrL2,
        FORWARD_DSR_IPIP => FlowKind::DsrIpip,
        FORWARD_DSR_GUE => FlowKind::DsrGue,
        _ => FlowKind::Nat,
    }
}

/// What an entry and an event have in common.
struct Parts<'a, A> {
    key: &'a KernelKey<A>,
    reply_key: &'a KernelKey<A>,
    flags: u32,
    group: GroupId,
    service: u64,
    endpoint: u64,
    birth_ns: u64,
    n: u32,
    bits: u32,
    last_seen_ns: u64,
}

/// An original entry as other nodes should know it.
pub(crate) fn of_entry<A: KernelFamily>(
    value: &FlowValue<A>,
    group: GroupId,
    timeouts: &Timeouts,
    targets: &Targets,
    now: KernelInstant,
) -> Option<FlowRecord> {
    let parts = Parts {
        key: &value.key,
        reply_key: &value.twin,
        flags: value.flags,
        group,
        service: value.service,
        endpoint: value.endpoint,
        birth_ns: value.birth_ns,
        n: state::n(value.state),
        bits: state::bits(value.state),
        last_seen_ns: value.last_seen_ns,
    };
    parts.record(timeouts, targets, now)
}

/// An event, likewise.
pub(crate) fn of_event<A: KernelFamily>(
    event: &FlowEvent<A>,
    timeouts: &Timeouts,
    targets: &Targets,
    now: KernelInstant,
) -> Option<FlowRecord> {
    let parts = Parts {
        key: &event.key,
        reply_key: &event.reply_key,
        flags: event.flags,
        group: GroupId(event.group),
        service: event.service,
        endpoint: event.endpoint,
        birth_ns: event.birth_ns,
        n: event.n,
        bits: event.state_bits,
        last_seen_ns: event.now_ns,
    };
    parts.record(timeouts, targets, now)
}

impl<A: KernelFamily> Parts<'_, A> {
    fn record(self, timeouts: &Timeouts, targets: &Targets, now: KernelInstant) -> Option<FlowRecord> {
        let key = model_key(self.key)?;
        let kind = kind(self.flags);
        let (endpoint_address, source) = match kind {
            FlowKind::Nat => {
                let source = socket(self.reply_key.destination_be, self.reply_key.destination_port_be);
                let endpoint = socket(self.reply_key.source_be, self.reply_key.source_port_be);
                (endpoint, Some(source).filter(|source| *source != key.client))
            }
            // Where it goes is not in its keys; an endpoint that is not known any more is named by what it answers as.
            _ => {
                let endpoint = targets.address(self.endpoint).unwrap_or(key.service.ip());
                (SocketAddr::new(endpoint, key.service.port()), None)
            }
        };
        Some(FlowRecord {
            key,
            group: self.group,
            service: ServiceId(self.service),
            endpoint: EndpointId(self.endpoint),
            endpoint_address,
            source,
            kind,
            version: version(self.birth_ns, self.n),
            state: flow_state(self.bits)?,
            state_bits: self.bits & state::REPLICATED,
            remaining: remaining(self.key.protocol, self.bits, timeouts, self.last_seen_ns, now),
        })
    }
}

/// What a table holds for a key, for the comparison of I6.
pub(crate) fn stamp<A>(value: &FlowValue<A>) -> FlowStamp {
    FlowStamp { epoch: Epoch(value.epoch), version: version(value.birth_ns, state::n(value.state)) }
}

/// The `last_seen_ns` of an entry with this much time left.
pub(crate) fn last_seen<A>(
    key: &KernelKey<A>,
    record: &FlowRecord,
    timeouts: &Timeouts,
    now: KernelInstant,
) -> u64 {
    let idle = timeout::idle_ns(key.protocol, record.state_bits, timeouts);
    let remaining = u64::try_from(record.remaining.as_nanos()).unwrap_or(u64::MAX).min(idle);
    now.0.saturating_sub(idle - remaining)
}

pub(crate) fn version(birth_ns: u64, n: u32) -> FlowVersion {
    FlowVersion { birth: birth_ns, n: u64::from(n) }
}

fn remaining(
    protocol: u8,
    bits: u32,
    timeouts: &Timeouts,
    last_seen_ns: u64,
    now: KernelInstant,
) -> Duration {
    let idle = timeout::idle_ns(protocol, bits, timeouts);
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
mod tests;
