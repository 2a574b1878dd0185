//! The maps. Names, sizes and meaning: `lockstep_abi::map`.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, bpf_fib_lookup};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use lockstep_abi::address::{AddressValue, AnswerKey, AnswerValue, InterfaceValue, MacValue, TransitValue};
use lockstep_abi::flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6};
use lockstep_abi::hop::{HopKey, HopValue};
use lockstep_abi::learn::{LEARN_BATCH, LearnEntry4, LearnEntry6};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map;
use lockstep_abi::reason;
use lockstep_abi::service::{
    AffinityKey, AffinityValue, Endpoint, GuardKey4, GuardKey6, GuardValue, PositionKey, RangeKey4,
    RangeKey6, ServiceKey4, ServiceKey6, ServiceLoad, ServiceRef, ServiceVersion, SourceKey, TargetValue,
    Timeouts,
};
use lockstep_abi::snat::SnatSet;
use lockstep_packet::fragment::{FragmentKey4, FragmentKey6, FragmentValue};

use crate::skb::CHUNK_BYTES;
use crate::special::walk::Walk;

pub(crate) type Address6 = [u32; 4];

#[map]
pub(crate) static FLOWS4: HashMap<FlowKey4, FlowValue4> = HashMap::with_max_entries(map::MAX_FLOW_ENTRIES, 0);

#[map]
pub(crate) static FLOWS6: HashMap<FlowKey6, FlowValue6> = HashMap::with_max_entries(map::MAX_FLOW_ENTRIES, 0);

#[map]
pub(crate) static LEASES: Array<LeaseValue> = Array::with_max_entries(map::MAX_LEASES, BPF_F_MMAPABLE);

#[map]
pub(crate) static ADDRESS_INDEX4: HashMap<u32, u32> = HashMap::with_max_entries(map::MAX_ADDRESSES, 0);

#[map]
pub(crate) static ADDRESS_INDEX6: HashMap<Address6, u32> = HashMap::with_max_entries(map::MAX_ADDRESSES, 0);

#[map]
pub(crate) static ADDRESSES: Array<AddressValue> = Array::with_max_entries(map::MAX_ADDRESSES, 0);

#[map]
pub(crate) static ANSWERS: HashMap<AnswerKey, AnswerValue> = HashMap::with_max_entries(map::MAX_ANSWERS, 0);

#[map]
pub(crate) static INTERFACES: HashMap<u32, InterfaceValue> =
    HashMap::with_max_entries(map::MAX_INTERFACES, 0);

#[map]
pub(crate) static MACS: Array<MacValue> = Array::with_max_entries(map::MAX_MACS, 0);

#[map]
pub(crate) static TRANSIT4: LpmTrie<u32, TransitValue> = LpmTrie::with_max_entries(map::MAX_TRANSIT, 0);

#[map]
pub(crate) static TRANSIT6: LpmTrie<Address6, TransitValue> = LpmTrie::with_max_entries(map::MAX_TRANSIT, 0);

#[map]
pub(crate) static HOPS: Array<HopValue> = Array::with_max_entries(map::MAX_HOPS, 0);

#[map]
pub(crate) static HOP_INDEX: HashMap<HopKey, u32> = HashMap::with_max_entries(map::MAX_HOPS, 0);

#[map]
pub(crate) static HOP_STAMP: Array<u32> = Array::with_max_entries(2, 0);

#[map]
pub(crate) static SERVICES4: HashMap<ServiceKey4, ServiceRef> =
    HashMap::with_max_entries(map::MAX_FRONTENDS, 0);

#[map]
pub(crate) static SERVICES6: HashMap<ServiceKey6, ServiceRef> =
    HashMap::with_max_entries(map::MAX_FRONTENDS, 0);

#[map]
pub(crate) static RANGES4: LpmTrie<RangeKey4, ServiceRef> = LpmTrie::with_max_entries(map::MAX_RANGES, 0);

#[map]
pub(crate) static RANGES6: LpmTrie<RangeKey6, ServiceRef> = LpmTrie::with_max_entries(map::MAX_RANGES, 0);

#[map]
pub(crate) static VERSIONS: Array<ServiceVersion> = Array::with_max_entries(map::VERSION_SLOTS, 0);

#[map]
pub(crate) static ENDPOINTS: Array<Endpoint> =
    Array::with_max_entries(map::VERSION_SLOTS * map::MAX_ENDPOINTS, 0);

#[map]
pub(crate) static ENDPOINT_HOPS: Array<u32> =
    Array::with_max_entries(map::VERSION_SLOTS * map::MAX_ENDPOINTS, 0);

#[map]
pub(crate) static MAGLEV: Array<u64> = Array::with_max_entries(map::VERSION_SLOTS * map::MAGLEV_WORDS, 0);

#[map]
pub(crate) static TURNS: Array<u64> = Array::with_max_entries(map::VERSION_SLOTS, 0);

#[map]
pub(crate) static POSITIONS: HashMap<PositionKey, u32> = HashMap::with_max_entries(map::MAX_POSITIONS, 0);

#[map]
pub(crate) static AFFINITY: HashMap<AffinityKey, AffinityValue> =
    HashMap::with_max_entries(map::MAX_AFFINITY, 0);

#[map]
pub(crate) static SOURCES: LpmTrie<SourceKey, u32> = LpmTrie::with_max_entries(map::MAX_SOURCES, 0);

#[map]
pub(crate) static TARGETS: Array<TargetValue> = Array::with_max_entries(map::MAX_TARGETS, 0);

#[map]
pub(crate) static TARGET_LOADS: Array<u64> = Array::with_max_entries(map::MAX_TARGETS, 0);

#[map]
pub(crate) static SERVICE_TIMEOUTS: Array<Timeouts> = Array::with_max_entries(map::SERVICE_SLOTS, 0);

#[map]
pub(crate) static SERVICE_LOADS: Array<ServiceLoad> = Array::with_max_entries(map::SERVICE_SLOTS, 0);

#[map]
pub(crate) static SNAT_SOURCES4: LpmTrie<u32, u32> = LpmTrie::with_max_entries(map::MAX_SNAT_SETS, 0);

#[map]
pub(crate) static SNAT_SOURCES6: LpmTrie<Address6, u32> = LpmTrie::with_max_entries(map::MAX_SNAT_SETS, 0);

#[map]
pub(crate) static SNAT_SETS: Array<SnatSet> = Array::with_max_entries(map::MAX_SNAT_SETS, 0);

#[map]
pub(crate) static GUARDS4: HashMap<GuardKey4, GuardValue> = HashMap::with_max_entries(map::MAX_GUARDS, 0);

#[map]
pub(crate) static GUARDS6: HashMap<GuardKey6, GuardValue> = HashMap::with_max_entries(map::MAX_GUARDS, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(reason::COUNT, 0);

#[map]
pub(crate) static LOST_EVENTS: Array<u64> = Array::with_max_entries(map::SHARDS, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(map::EVENT_RING_BYTES, 0);

#[map]
pub(crate) static EVENT_READER: Array<u32> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static TC_STAGES: ProgramArray = ProgramArray::with_max_entries(map::STAGES, 0);

#[map]
pub(crate) static XDP_STAGES: ProgramArray = ProgramArray::with_max_entries(map::STAGES, 0);

/// Room for a flow that does not fit on the stack; holds nothing between packets.
#[map]
pub(crate) static SCRATCH4: PerCpuArray<FlowValue4> = PerCpuArray::with_max_entries(2, 0);

#[map]
pub(crate) static SCRATCH6: PerCpuArray<FlowValue6> = PerCpuArray::with_max_entries(2, 0);

/// Learnt flows that user space lays here.
#[map]
pub(crate) static LEARN4: Array<LearnEntry4> = Array::with_max_entries(LEARN_BATCH, BPF_F_MMAPABLE);

#[map]
pub(crate) static LEARN6: Array<LearnEntry6> = Array::with_max_entries(LEARN_BATCH, BPF_F_MMAPABLE);

/// When the next flow may be made again: the clock of a rate.
#[map]
pub(crate) static RECOVERY: Array<u64> = Array::with_max_entries(1, 0);

/// Likewise for a question to the routing table and its answer.
#[map]
pub(crate) static FIB: PerCpuArray<bpf_fib_lookup> = PerCpuArray::with_max_entries(1, 0);

/// Likewise for the key of the packet that is decided about.
#[map]
pub(crate) static KEY4: PerCpuArray<FlowKey4> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static KEY6: PerCpuArray<FlowKey6> = PerCpuArray::with_max_entries(1, 0);

/// What first fragments showed. The kernel forgets the oldest when it is full.
#[map]
pub(crate) static FRAGMENTS4: LruHashMap<FragmentKey4, FragmentValue> =
    LruHashMap::with_max_entries(map::MAX_FRAGMENTS, 0);

#[map]
pub(crate) static FRAGMENTS6: LruHashMap<FragmentKey6, FragmentValue> =
    LruHashMap::with_max_entries(map::MAX_FRAGMENTS, 0);

/// When the next ICMP error may be sent: the clock of a rate.
#[map]
pub(crate) static COMPLAINTS: Array<u64> = Array::with_max_entries(1, 0);

/// What a packet's headers are, and those of the packet that it quotes; holds nothing between packets.
#[map]
pub(crate) static WALKS: PerCpuArray<Walk> = PerCpuArray::with_max_entries(2, 0);

/// Room for a piece of a packet that is summed.
#[map]
pub(crate) static CHUNK: PerCpuArray<[u8; CHUNK_BYTES]> = PerCpuArray::with_max_entries(1, 0);
