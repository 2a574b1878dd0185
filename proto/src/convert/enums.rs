//! Enums. `UNSPECIFIED` is never sent, and refused but where an earlier version did not know the field.

use lockstep_model::flow::{FlowKind, FlowState};
use lockstep_model::health::FailureKind;
use lockstep_model::intent::{
    Algorithm, AllDown, EndpointState, LeaseProfile, Mode, NodeRole, OnMiss, OnQuorumLoss,
};
use lockstep_model::protocol::Protocol;

use super::{ConvertError, Problem};
use crate::types::v1 as pb;

macro_rules! enums {
    ($($name:ident { $($variant:ident),+ $(,)? })+) => {
        enums! { $($name = $name { $($variant),+ })+ }
    };
    ($($name:ident = $wire:ident { $($variant:ident),+ $(,)? })+) => {$(
        impl From<$name> for pb::$wire {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => pb::$wire::$variant,)+ }
            }
        }

        impl TryFrom<pb::$wire> for $name {
            type Error = ConvertError;

            fn try_from(wire: pb::$wire) -> Result<Self, ConvertError> {
                match wire {
                    pb::$wire::Unspecified => Err(ConvertError::new("", Problem::Missing)),
                    $(pb::$wire::$variant => Ok($name::$variant),)+
                }
            }
        }
    )+};
}

enums! {
    Protocol { Tcp, Udp, Sctp, Icmp }
    LeaseProfile { Fast, Lan, Wan }
    OnQuorumLoss { Fence }
    Algorithm { Maglev, RoundRobin, WeightedRoundRobin, SourceHash, LeastConnections }
    Mode { Nat, Fullnat, OneArm, HostOneArm, DsrL2, DsrIpip, DsrGue }
    OnMiss { Recover, Drop, Reset }
    AllDown { ServeNone, ServeAll }
    EndpointState { Active, Drain, Disabled }
    NodeRole { Dataplane, Witness }
    FlowState { New, Established, Closing, Closed, ResetPending }
    FlowKind { Nat, DsrL2, DsrIpip, DsrGue }
}

enums! {
    FailureKind = ProbeFailureKind {
        Timeout, Refused, Unreachable, Closed, Tls, Protocol, Status, Unexpected, Local
    }
}

/// An enum field: prost keeps it as its number.
pub(crate) fn enumeration<W, M>(field: &str, number: i32) -> Result<M, ConvertError>
where
    W: TryFrom<i32>,
    M: TryFrom<W, Error = ConvertError>,
{
    let wire = W::try_from(number).map_err(|_| ConvertError::new(field, Problem::UnknownEnum(number)))?;
    M::try_from(wire).map_err(|e| e.within(field))
}

/// An enum field that an earlier version did not know: `default` where it is absent.
pub(crate) fn enumeration_or<W, M>(field: &str, number: i32, default: M) -> Result<M, ConvertError>
where
    W: TryFrom<i32>,
    M: TryFrom<W, Error = ConvertError>,
{
    if number == 0 { Ok(default) } else { enumeration::<W, M>(field, number) }
}

/// The number of an enum value.
pub(crate) fn number<M, W>(value: M) -> i32
where
    W: From<M> + Into<i32>,
{
    W::from(value).into()
}
