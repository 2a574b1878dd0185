//! The maps. Names, sizes and meaning: `lockstep_abi::map`.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, RingBuf};
use lockstep_abi::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, TransitValue};
use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_abi::hop::{HopKey, HopValue};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map;
use lockstep_abi::reason;
use lockstep_abi::service::{Endpoint, GuardKey, GuardValue, ServiceKey, ServiceRef, ServiceVersion};

#[map]
pub(crate) static FLOWS: HashMap<FlowKey4, FlowValue4> = HashMap::with_max_entries(map::MAX_FLOW_ENTRIES, 0);

#[map]
pub(crate) static LEASES: Array<LeaseValue> = Array::with_max_entries(map::MAX_LEASES, BPF_F_MMAPABLE);

#[map]
pub(crate) static ADDRESS_INDEX: HashMap<u32, u32> = HashMap::with_max_entries(map::MAX_ADDRESSES, 0);

#[map]
pub(crate) static ADDRESSES: Array<AddressValue> = Array::with_max_entries(map::MAX_ADDRESSES, 0);

#[map]
pub(crate) static ANSWERS: HashMap<AnswerKey, AnswerValue> = HashMap::with_max_entries(map::MAX_ANSWERS, 0);

#[map]
pub(crate) static INTERFACES: HashMap<u32, InterfaceValue> =
    HashMap::with_max_entries(map::MAX_INTERFACES, 0);

#[map]
pub(crate) static TRANSIT: LpmTrie<u32, TransitValue> = LpmTrie::with_max_entries(map::MAX_TRANSIT, 0);

#[map]
pub(crate) static SERVICES: HashMap<ServiceKey, ServiceRef> =
    HashMap::with_max_entries(map::MAX_FRONTENDS, 0);

#[map]
pub(crate) static VERSIONS: Array<ServiceVersion> = Array::with_max_entries(map::VERSION_SLOTS, 0);

#[map]
pub(crate) static ENDPOINTS: Array<Endpoint> =
    Array::with_max_entries(map::VERSION_SLOTS * map::MAX_ENDPOINTS, 0);

#[map]
pub(crate) static MAGLEV: Array<u64> = Array::with_max_entries(map::VERSION_SLOTS * map::MAGLEV_WORDS, 0);

#[map]
pub(crate) static TURNS: Array<u64> = Array::with_max_entries(map::VERSION_SLOTS, 0);

#[map]
pub(crate) static GUARDS: HashMap<GuardKey, GuardValue> = HashMap::with_max_entries(map::MAX_GUARDS, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(reason::COUNT, 0);

#[map]
pub(crate) static LOST_EVENTS: Array<u64> = Array::with_max_entries(map::SHARDS, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(map::EVENT_RING_BYTES, 0);

#[map]
pub(crate) static HOPS: Array<HopValue> = Array::with_max_entries(map::MAX_HOPS, 0);

#[map]
pub(crate) static HOP_INDEX: HashMap<HopKey, u32> = HashMap::with_max_entries(map::MAX_HOPS, 0);

#[map]
pub(crate) static HOP_STAMP: Array<u32> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static STAGES: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// Room for a value that does not fit on the stack; holds nothing between packets.
#[map]
pub(crate) static SCRATCH: PerCpuArray<FlowValue4> = PerCpuArray::with_max_entries(1, 0);
