//! Services and endpoints.

use std::time::Duration;

use lockstep_model::duration::millis;
use lockstep_model::intent::{
    Affinity, EndpointSpec, HealthCheck, Limits, Mode, OnMiss, PortRange, ServiceSpec, SyncPolicy, Timeouts,
};
use lockstep_model::limits::{MAX_TIMEOUT, MAX_WEIGHT, MIN_TIMEOUT, SYNC_AFTER};
use lockstep_model::protocol::Family;

use super::address::{address_to_bytes, addresses_from_bytes};
use super::enums::{enumeration, enumeration_or, number};
use super::{ConvertError, Problem, each, port, required};
use crate::types::v1 as pb;

impl From<&EndpointSpec> for pb::EndpointSpec {
    fn from(model: &EndpointSpec) -> Self {
        pb::EndpointSpec {
            address: Some(model.address.into()),
            weight: model.weight.into(),
            state: number::<_, pb::EndpointState>(model.state),
            backup: model.backup,
        }
    }
}

impl TryFrom<pb::EndpointSpec> for EndpointSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::EndpointSpec) -> Result<Self, ConvertError> {
        let weight = u16::try_from(wire.weight).ok().filter(|w| *w <= MAX_WEIGHT).ok_or_else(|| {
            let problem = Problem::OutOfRange { value: wire.weight.into(), allowed: "0-1000" };
            ConvertError::new("weight", problem)
        })?;
        Ok(EndpointSpec {
            address: required("address", wire.address)?,
            weight,
            state: enumeration::<pb::EndpointState, _>("state", wire.state)?,
            backup: wire.backup,
        })
    }
}

impl From<&ServiceSpec> for pb::ServiceSpec {
    fn from(model: &ServiceSpec) -> Self {
        let PortRange { first, last } = model.port;
        pb::ServiceSpec {
            name: model.name.clone(),
            group: model.group.clone(),
            vip: model.vip.iter().copied().map(address_to_bytes).collect(),
            port: first.into(),
            protocol: model.protocol.iter().map(|p| number::<_, pb::Protocol>(*p)).collect(),
            algorithm: number::<_, pb::Algorithm>(model.algorithm),
            sync: pb::SyncPolicy::from(model.sync).into(),
            sync_after_ms: model.sync.age().map_or(0, millis),
            endpoints: model.endpoints.iter().map(Into::into).collect(),
            // One port is written as versions without ranges wrote it.
            port_last: if first == last { 0 } else { last.into() },
            mode: number::<_, pb::Mode>(model.mode),
            on_miss: number::<_, pb::OnMiss>(model.on_miss),
            affinity: model.affinity.as_ref().map(Into::into),
            snat_pool: model.snat_pool.iter().copied().map(address_to_bytes).collect(),
            timeouts: Some((&model.timeouts).into()),
            sources: model.sources.iter().map(Into::into).collect(),
            limits: Some(pb::Limits {
                connections: model.limits.connections,
                new_per_second: model.limits.new_per_second,
            }),
            slow_start_ms: model.slow_start.map(millis),
            health: model.health.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<pb::ServiceSpec> for ServiceSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::ServiceSpec) -> Result<Self, ConvertError> {
        let first = port("port", wire.port)?;
        let last = if wire.port_last == 0 { first } else { port("port_last", wire.port_last)? };
        let ports = PortRange::new(first, last).ok_or_else(|| {
            let problem = Problem::OutOfRange { value: last.into(), allowed: "the first port to 65535" };
            ConvertError::new("port_last", problem)
        })?;
        let protocol = |(i, p): (usize, &i32)| enumeration::<pb::Protocol, _>(&format!("protocol[{i}]"), *p);
        let algorithm = enumeration::<pb::Algorithm, _>("algorithm", wire.algorithm)?;
        let mode = enumeration_or::<pb::Mode, _>("mode", wire.mode, Mode::default())?;
        let on_miss = OnMiss::default_of(algorithm, mode);
        let limits = wire.limits.unwrap_or_default();
        Ok(ServiceSpec {
            name: wire.name,
            group: wire.group,
            vip: addresses_from_bytes("vip", &wire.vip)?,
            port: ports,
            protocol: wire.protocol.iter().enumerate().map(protocol).collect::<Result<_, _>>()?,
            algorithm,
            affinity: wire.affinity.map(Affinity::try_from).transpose().map_err(|e| e.within("affinity"))?,
            mode,
            snat_pool: addresses_from_bytes("snat_pool", &wire.snat_pool)?,
            timeouts: match wire.timeouts {
                Some(timeouts) => timeouts.try_into().map_err(|e: ConvertError| e.within("timeouts"))?,
                None => Timeouts::default(),
            },
            sync: sync_policy(wire.sync, wire.sync_after_ms)?,
            on_miss: enumeration_or::<pb::OnMiss, _>("on_miss", wire.on_miss, on_miss)?,
            sources: each("sources", wire.sources)?,
            limits: Limits { connections: limits.connections, new_per_second: limits.new_per_second },
            slow_start: wire.slow_start_ms.map(Duration::from_millis),
            health: wire
                .health
                .map(|check| HealthCheck::try_from(check).map(Box::new))
                .transpose()
                .map_err(|e| e.within("health"))?,
            endpoints: each("endpoints", wire.endpoints)?,
        })
    }
}

impl From<SyncPolicy> for pb::SyncPolicy {
    fn from(model: SyncPolicy) -> Self {
        match model {
            SyncPolicy::Immediate => pb::SyncPolicy::Immediate,
            SyncPolicy::Established => pb::SyncPolicy::Established,
            SyncPolicy::After(_) => pb::SyncPolicy::After,
            SyncPolicy::None => pb::SyncPolicy::None,
        }
    }
}

fn sync_policy(number: i32, after_ms: u64) -> Result<SyncPolicy, ConvertError> {
    let problem = |field, problem| Err(ConvertError::new(field, problem));
    match pb::SyncPolicy::try_from(number) {
        Ok(pb::SyncPolicy::Immediate) => Ok(SyncPolicy::Immediate),
        Ok(pb::SyncPolicy::Established) => Ok(SyncPolicy::Established),
        Ok(pb::SyncPolicy::None) => Ok(SyncPolicy::None),
        Ok(pb::SyncPolicy::After) => {
            let age = Duration::from_millis(after_ms);
            if SYNC_AFTER.contains(&age) {
                return Ok(SyncPolicy::After(age));
            }
            problem("sync_after_ms", Problem::OutOfRange { value: after_ms, allowed: "100-60000" })
        }
        Ok(pb::SyncPolicy::Unspecified) => problem("sync", Problem::Missing),
        Err(_) => problem("sync", Problem::UnknownEnum(number)),
    }
}

impl From<&Affinity> for pb::Affinity {
    fn from(model: &Affinity) -> Self {
        pb::Affinity {
            prefix4: model.prefix4.into(),
            prefix6: model.prefix6.into(),
            timeout_ms: millis(model.timeout),
        }
    }
}

impl TryFrom<pb::Affinity> for Affinity {
    type Error = ConvertError;

    fn try_from(wire: pb::Affinity) -> Result<Self, ConvertError> {
        let length = |field, family: Family, allowed, value: u32| {
            u8::try_from(value)
                .ok()
                .filter(|length| *length <= family.bits())
                .ok_or_else(|| ConvertError::new(field, Problem::OutOfRange { value: value.into(), allowed }))
        };
        Ok(Affinity {
            prefix4: length("prefix4", Family::V4, "0-32", wire.prefix4)?,
            prefix6: length("prefix6", Family::V6, "0-128", wire.prefix6)?,
            timeout: timeout("timeout_ms", wire.timeout_ms)?,
        })
    }
}

impl From<&Timeouts> for pb::Timeouts {
    fn from(model: &Timeouts) -> Self {
        pb::Timeouts {
            established_ms: millis(model.established),
            syn_ms: millis(model.syn),
            fin_ms: millis(model.fin),
            udp_ms: millis(model.udp),
            udp_stream_ms: millis(model.udp_stream),
        }
    }
}

impl TryFrom<pb::Timeouts> for Timeouts {
    type Error = ConvertError;

    fn try_from(wire: pb::Timeouts) -> Result<Self, ConvertError> {
        Ok(Timeouts {
            established: timeout("established_ms", wire.established_ms)?,
            syn: timeout("syn_ms", wire.syn_ms)?,
            fin: timeout("fin_ms", wire.fin_ms)?,
            udp: timeout("udp_ms", wire.udp_ms)?,
            udp_stream: timeout("udp_stream_ms", wire.udp_stream_ms)?,
        })
    }
}

fn timeout(field: &str, ms: u64) -> Result<Duration, ConvertError> {
    let value = Duration::from_millis(ms);
    if !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&value) {
        let problem = Problem::OutOfRange { value: ms, allowed: "1000-2592000000" };
        return Err(ConvertError::new(field, problem));
    }
    Ok(value)
}
