//! `aya::Pod` for the shared types.

use core::fmt::Debug;
use core::hash::Hash;

use crate::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, MacValue, TransitValue};
use crate::age::AgeEntry;
use crate::event::FlowEvent;
use crate::flow::{Address, FlowKey, FlowValue};
use crate::hop::{HopKey, HopValue};
use crate::learn::LearnEntry;
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

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for [u32; 4] {}
}

/// An address in keys and values: `u32` or `[u32; 4]`, and nothing else.
pub trait KernelAddress:
    Address + aya::Pod + sealed::Sealed + Debug + Default + Hash + Send + Sync + 'static
{
}
impl KernelAddress for u32 {}
impl KernelAddress for [u32; 4] {}

/// The same for a type over addresses of either family.
macro_rules! pod_of_both {
    ($($type:ident),* $(,)?) => {$(
        // SAFETY: as above; there are two such types, and the sizes of both are asserted.
        unsafe impl<A: KernelAddress> aya::Pod for $type<A> {}
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

pod_of_both!(AgeEntry, FlowEvent, FlowKey, FlowValue, GuardKey, LearnEntry, RangeKey, ServiceKey);
