//! The maps. Tables have keys and values of the sizes of the shipped flow tables, and no other meaning.

use core::mem::size_of;

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, ProgramArray};
use lockstep_abi::flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6};

use crate::plan::Plan;

/// An IPv4 tuple: source, destination, ports, protocol.
pub(crate) type Key4 = [u32; 4];
/// An IPv6 tuple: source, destination, ports, protocol.
pub(crate) type Key6 = [u32; 10];
/// As large as a flow's.
pub(crate) type Value4 = [u64; size_of::<FlowValue4>() / 8];
/// As large as a flow's.
pub(crate) type Value6 = [u64; size_of::<FlowValue6>() / 8];
const _: () = assert!(size_of::<FlowKey4>() == size_of::<Key4>());
const _: () = assert!(size_of::<FlowKey6>() == size_of::<Key6>());

/// Entries; the loader sets what the benchmark needs.
const ENTRIES: u32 = 1024;

#[map]
pub(crate) static TABLE4: HashMap<Key4, Value4> = HashMap::with_max_entries(ENTRIES, 0);

#[map]
pub(crate) static TABLE6: HashMap<Key6, Value6> = HashMap::with_max_entries(ENTRIES, 0);

/// The dataplane's own, which the loader puts here.
#[map]
pub(crate) static FLOWS4: HashMap<FlowKey4, FlowValue4> = HashMap::with_max_entries(ENTRIES, 0);

/// Likewise.
#[map]
pub(crate) static FLOWS6: HashMap<FlowKey6, FlowValue6> = HashMap::with_max_entries(ENTRIES, 0);

/// The keys of both entries of the flow that is to be forgotten; an IPv4 key fills the first part of an element.
#[map]
pub(crate) static FORGET: Array<Key6> = Array::with_max_entries(2, 0);

/// How long removals took, all together, where that is noted.
#[map]
pub(crate) static REMOVAL_NS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// An entry without meaning.
#[map]
pub(crate) static VALUE: PerCpuArray<FlowValue6> = PerCpuArray::with_max_entries(1, 0);

/// One element: the run at hand.
#[map]
pub(crate) static PLAN: Array<Plan> = Array::with_max_entries(1, 0);

/// How many packets a wrapper has made on this CPU.
#[map]
pub(crate) static TURN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The program under test, for wrappers at XDP.
#[map]
pub(crate) static TARGET_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same at tc.
#[map]
pub(crate) static TARGET_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Packets that the sink of a live run got.
#[map]
pub(crate) static ARRIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
