//! `aya::Pod` for the shared types.

use crate::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, TransitValue};
use crate::age::AgeEntry;
use crate::event::FlowEvent;
use crate::flow::{FlowKey4, FlowValue4};
use crate::hop::{HopKey, HopValue};
use crate::lease::LeaseValue;
use crate::service::{Endpoint, GuardKey, GuardValue, ServiceKey, ServiceRef, ServiceVersion};

macro_rules! pod {
    ($($type:ty),* $(,)?) => {$(
        // SAFETY: repr(C), integers and arrays of integers only, all padding explicit (sizes are asserted
        // where the type is defined), so every byte is initialised and every bit pattern is valid.
        unsafe impl aya::Pod for $type {}
    )*};
}

pod!(
    AddressValue,
    AnswerKey,
    AnswerValue,
    InterfaceValue,
    TransitValue,
    AgeEntry,
    FlowEvent,
    FlowKey4,
    FlowValue4,
    HopKey,
    HopValue,
    LeaseValue,
    Endpoint,
    GuardKey,
    GuardValue,
    ServiceKey,
    ServiceRef,
    ServiceVersion,
);
