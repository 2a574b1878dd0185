//! SNAT rules, and prefixes.

use lockstep_model::intent::{PortRange, Prefix, SnatAction, SnatRuleSpec};
use lockstep_model::protocol::Protocol;

use super::address::{address_from_bytes, address_to_bytes, addresses_from_bytes};
use super::enums::{enumeration, number};
use super::{ConvertError, Problem, port, required};
use crate::types::v1 as pb;
use crate::types::v1::snat_rule_spec::Action as WireAction;

impl From<&Prefix> for pb::Prefix {
    fn from(model: &Prefix) -> Self {
        pb::Prefix { address: address_to_bytes(model.address), length: model.length.into() }
    }
}

impl TryFrom<pb::Prefix> for Prefix {
    type Error = ConvertError;

    fn try_from(wire: pb::Prefix) -> Result<Self, ConvertError> {
        let address = address_from_bytes("address", &wire.address)?;
        let length = u8::try_from(wire.length).ok();
        length.and_then(|length| Prefix::new(address, length)).ok_or_else(|| {
            let allowed = "the lengths that leave no bit of the address behind it";
            ConvertError::new("length", Problem::OutOfRange { value: wire.length.into(), allowed })
        })
    }
}

impl From<&SnatRuleSpec> for pb::SnatRuleSpec {
    fn from(model: &SnatRuleSpec) -> Self {
        pb::SnatRuleSpec {
            name: model.name.clone(),
            group: model.group.clone(),
            priority: model.priority.into(),
            source: Some((&model.source).into()),
            destination: Some((&model.destination).into()),
            protocol: model.protocol.map_or(0, number::<_, pb::Protocol>),
            port_first: model.ports.first.into(),
            port_last: model.ports.last.into(),
            action: Some((&model.action).into()),
        }
    }
}

impl TryFrom<pb::SnatRuleSpec> for SnatRuleSpec {
    type Error = ConvertError;

    fn try_from(wire: pb::SnatRuleSpec) -> Result<Self, ConvertError> {
        let (first, last) = (port("port_first", wire.port_first)?, port("port_last", wire.port_last)?);
        let out_of_range =
            |field, value, allowed| ConvertError::new(field, Problem::OutOfRange { value, allowed });
        let protocol: Option<Protocol> = match wire.protocol {
            0 => None,
            number => Some(enumeration::<pb::Protocol, _>("protocol", number)?),
        };
        Ok(SnatRuleSpec {
            name: wire.name,
            group: wire.group,
            priority: u16::try_from(wire.priority)
                .map_err(|_| out_of_range("priority", wire.priority.into(), "0-65535"))?,
            source: required("source", wire.source)?,
            destination: required("destination", wire.destination)?,
            protocol,
            ports: PortRange::new(first, last)
                .ok_or_else(|| out_of_range("port_last", last.into(), "the first port to 65535"))?,
            action: match wire.action {
                Some(action) => action.try_into()?,
                None => return Err(ConvertError::new("action", Problem::Missing)),
            },
        })
    }
}

impl From<&SnatAction> for WireAction {
    fn from(model: &SnatAction) -> Self {
        match model {
            SnatAction::Snat(to) => {
                WireAction::Snat(pb::SnatTo { to: to.iter().copied().map(address_to_bytes).collect() })
            }
            SnatAction::Static(to) => WireAction::StaticTo(address_to_bytes(*to)),
            SnatAction::None => WireAction::None(pb::SnatNone {}),
        }
    }
}

impl TryFrom<WireAction> for SnatAction {
    type Error = ConvertError;

    fn try_from(wire: WireAction) -> Result<Self, ConvertError> {
        Ok(match wire {
            WireAction::Snat(snat) => SnatAction::Snat(addresses_from_bytes("snat.to", &snat.to)?),
            WireAction::StaticTo(to) => SnatAction::Static(address_from_bytes("static_to", &to)?),
            WireAction::None(pb::SnatNone {}) => SnatAction::None,
        })
    }
}
