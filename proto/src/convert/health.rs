//! Health checks and verdicts.

use std::time::Duration;

use lockstep_model::duration::millis;
use lockstep_model::health::{Failure, Judgement, Verdict};
use lockstep_model::ids::{EndpointId, LogIndex, NodeId, Revision, ServiceId};
use lockstep_model::intent::{AllDown, HealthCheck, HttpProbe, Probe, StatusRange};

use super::enums::{enumeration, number};
use super::{ConvertError, Problem};
use crate::types::v1 as pb;
use crate::types::v1::health_check::Probe as WireProbe;

impl From<&HealthCheck> for pb::HealthCheck {
    fn from(model: &HealthCheck) -> Self {
        let probe = match &model.probe {
            Probe::Tcp => WireProbe::Tcp(pb::TcpProbe {}),
            Probe::Udp { send, expect } => {
                WireProbe::Udp(pb::UdpProbe { send: send.clone(), expect: expect.clone() })
            }
            Probe::Http(probe) => WireProbe::Http(probe.into()),
            Probe::Https(probe) => WireProbe::Https(probe.into()),
            Probe::Icmp => WireProbe::Icmp(pb::IcmpProbe {}),
        };
        pb::HealthCheck {
            port: model.port.into(),
            interval_ms: millis(model.interval),
            timeout_ms: millis(model.timeout),
            rise: model.rise.into(),
            fall: model.fall.into(),
            all_down: number::<_, pb::AllDown>(model.all_down),
            probe: Some(probe),
        }
    }
}

impl TryFrom<pb::HealthCheck> for HealthCheck {
    type Error = ConvertError;

    fn try_from(wire: pb::HealthCheck) -> Result<Self, ConvertError> {
        let probe = match wire.probe.ok_or_else(|| ConvertError::new("probe", Problem::Missing))? {
            WireProbe::Tcp(_) => Probe::Tcp,
            WireProbe::Udp(probe) => Probe::Udp { send: probe.send, expect: probe.expect },
            WireProbe::Http(probe) => {
                Probe::Http(probe.try_into().map_err(|e: ConvertError| e.within("http"))?)
            }
            WireProbe::Https(probe) => {
                Probe::Https(probe.try_into().map_err(|e: ConvertError| e.within("https"))?)
            }
            WireProbe::Icmp(_) => Probe::Icmp,
        };
        Ok(HealthCheck {
            probe,
            port: super::port("port", wire.port)?,
            interval: Duration::from_millis(wire.interval_ms),
            timeout: Duration::from_millis(wire.timeout_ms),
            rise: count("rise", wire.rise)?,
            fall: count("fall", wire.fall)?,
            all_down: enumeration::<pb::AllDown, AllDown>("all_down", wire.all_down)?,
        })
    }
}

fn count(field: &str, value: u32) -> Result<u8, ConvertError> {
    u8::try_from(value)
        .map_err(|_| ConvertError::new(field, Problem::OutOfRange { value: value.into(), allowed: "1-10" }))
}

impl From<&HttpProbe> for pb::HttpProbe {
    fn from(model: &HttpProbe) -> Self {
        pb::HttpProbe {
            path: model.path.clone(),
            host: model.host.clone(),
            status_first: model.expect.first.into(),
            status_last: model.expect.last.into(),
        }
    }
}

impl TryFrom<pb::HttpProbe> for HttpProbe {
    type Error = ConvertError;

    fn try_from(wire: pb::HttpProbe) -> Result<Self, ConvertError> {
        let status = |field, value: u32| {
            u16::try_from(value).map_err(|_| {
                ConvertError::new(field, Problem::OutOfRange { value: value.into(), allowed: "100-599" })
            })
        };
        let expect = StatusRange {
            first: status("status_first", wire.status_first)?,
            last: status("status_last", wire.status_last)?,
        };
        Ok(HttpProbe { path: wire.path, host: wire.host, expect })
    }
}

impl From<&Failure> for pb::ProbeFailure {
    fn from(model: &Failure) -> Self {
        pb::ProbeFailure { kind: number::<_, pb::ProbeFailureKind>(model.kind), detail: model.detail }
    }
}

impl TryFrom<pb::ProbeFailure> for Failure {
    type Error = ConvertError;

    fn try_from(wire: pb::ProbeFailure) -> Result<Self, ConvertError> {
        let kind = enumeration::<pb::ProbeFailureKind, _>("kind", wire.kind)?;
        Ok(Failure { kind, detail: wire.detail })
    }
}

/// A failure that may be absent.
pub(super) fn failure(wire: Option<pb::ProbeFailure>) -> Result<Option<Failure>, ConvertError> {
    wire.map(Failure::try_from).transpose().map_err(|e| e.within("failure"))
}

impl From<(EndpointId, &Verdict)> for pb::EndpointVerdict {
    fn from((endpoint, model): (EndpointId, &Verdict)) -> Self {
        pb::EndpointVerdict {
            endpoint: endpoint.get(),
            up: model.up,
            index: model.index.get(),
            at_unix_ms: model.at_unix_ms,
            failure: model.failure.as_ref().map(Into::into),
            nodes: model.nodes.iter().map(|node| node.get()).collect(),
        }
    }
}

impl TryFrom<pb::EndpointVerdict> for (EndpointId, Verdict) {
    type Error = ConvertError;

    fn try_from(wire: pb::EndpointVerdict) -> Result<Self, ConvertError> {
        let verdict = Verdict {
            up: wire.up,
            index: LogIndex(wire.index),
            at_unix_ms: wire.at_unix_ms,
            failure: failure(wire.failure)?,
            nodes: wire.nodes.into_iter().map(NodeId).collect(),
        };
        Ok((EndpointId(wire.endpoint), verdict))
    }
}

impl From<&Judgement> for pb::Judgement {
    fn from(model: &Judgement) -> Self {
        pb::Judgement {
            service: model.service.get(),
            revision: model.revision.get(),
            endpoint: model.endpoint.get(),
            up: model.up,
            failure: model.failure.as_ref().map(Into::into),
            nodes: model.nodes.iter().map(|node| node.get()).collect(),
        }
    }
}

impl TryFrom<pb::Judgement> for Judgement {
    type Error = ConvertError;

    fn try_from(wire: pb::Judgement) -> Result<Self, ConvertError> {
        Ok(Judgement {
            service: ServiceId(wire.service),
            revision: Revision(wire.revision),
            endpoint: EndpointId(wire.endpoint),
            up: wire.up,
            failure: failure(wire.failure)?,
            nodes: wire.nodes.into_iter().map(NodeId).collect(),
        })
    }
}
