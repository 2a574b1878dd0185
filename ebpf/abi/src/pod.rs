//! `aya::Pod` for the shared types.

use crate::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, MacValue, TransitValue};
use crate::age::AgeEntry;
use crate::event::FlowEvent;
use crate::flow::{FlowKey, FlowValue};
use crate::hop::{HopKey, HopValue};
use crate::lease::LeaseValue;
use crate::service::{
    AffinityKey, AffinityValue, Endpoint, GuardKey, GuardValue, PositionKey, RangeKey, ServiceKey,
    ServiceLoad, ServiceRef, ServiceVersion, SourceKey, TargetValue, Timeouts,
};
use crate::snat::SnatSet;

macro_rules! pod {
    ($($type:ty),* $(,)?) => {$(
        // SAFETY: repr(C), integers and arrays of integers only, all padding explicit (sizes are asserted
        // where the type is defined), so every byte is initialised and every bit pattern is valid.
        unsafe impl aya::Pod for $type {}
    )*};
}

/// The same for a type over addresses of either family.
macro_rules! pod_of_both {
    ($($type:ident),* $(,)?) => {$(
        pod!($type<u32>, $type<[u32; 4]>);
    )*};
}

pod!(
    AddressValue,
    AffinityKey,
    AffinityValue,
    AnswerKey,
    AnswerValue,
    Endpoint,
    GuardValue,
    HopKey,
    HopValue,
    InterfaceValue,
    LeaseValue,
    MacValue,
    PositionKey,
    ServiceLoad,
    ServiceRef,
    ServiceVersion,
    SnatSet,
    SourceKey,
    TargetValue,
    Timeouts,
    TransitValue,
);

pod_of_both!(AgeEntry, FlowEvent, FlowKey, FlowValue, GuardKey, RangeKey, ServiceKey);
