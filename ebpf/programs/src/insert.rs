//! Writing a flow's entries: the reply's first, which reserves the translated tuple.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_loop;
use lockstep_abi::event::CREATED;
use lockstep_abi::flow::{Address, FORWARDING, FlowKey, FlowValue, KIND, ORIGINAL, deltas};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{RangeKey, ServiceKey};
use lockstep_abi::state;
use lockstep_abi::timeout::DEAD_NS;
use lockstep_packet::port::port;

use crate::atomic::{copy_key, same_key};
use crate::count::count;
use crate::event::report_now;
use crate::family::{Family, V4, V6};
use crate::load;
use crate::maps::ADDRESSES;
use crate::reopen::{take_back, take_over};
use crate::words;

pub(crate) const EEXIST: i32 = -17;
const E2BIG: i32 = -7;
const ENOMEM: i32 = -12;

/// Source ports that are tried for a flow before it is refused.
const PORT_TRIES: u32 = 32;

/// What becomes of the client's address and port.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// Whether the source is translated at all.
    pub(crate) translate: bool,
    /// Whether the port stays (one host has the address to itself).
    pub(crate) keep_port: bool,
    /// Whether only the port at which the search begins will do: the one that a former owner most likely found.
    pub(crate) first: bool,
    /// The address's index.
    pub(crate) index: u32,
    /// Where the search for a port begins.
    pub(crate) hash: u32,
}

impl Source {
    pub(crate) const KEPT: Self =
        Self { translate: false, keep_port: false, first: false, index: 0, hash: 0 };

    /// All but the hash in one word.
    #[inline(always)]
    const fn pack(&self) -> u64 {
        (self.index as u64) << 3
            | (self.first as u64) << 2
            | (self.keep_port as u64) << 1
            | self.translate as u64
    }

    #[inline(always)]
    const fn unpack(word: u64, hash: u32) -> Self {
        let (translate, keep_port, first) = (word & 1 != 0, word & 2 != 0, word & 4 != 0);
        Self { translate, keep_port, first, index: (word >> 3) as u32, hash }
    }
}

/// The beginnings of a flow, where the kernel can copy it from: the stack has no room for it. What makes the flow
/// fills in the rest, and then [`begin`]s it.
#[inline(always)]
pub(crate) fn draft<F: Family>(
    key: &FlowKey<F::Address>,
    state_bits: u32,
    now_ns: u64,
) -> Result<&'static mut FlowValue<F::Address>, Reason> {
    let room = F::scratch(DRAFT_ROOM).ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flow = unsafe { &mut *room };
    // The memory's last user was written at another nanosecond.
    flow.generation = now_ns as u32;
    flow.generation_end = now_ns as u32;
    // SAFETY: a key in the draft.
    unsafe { copy_key(addr_of_mut!(flow.key), key) };
    flow.last_seen_ns = now_ns;
    flow.birth_ns = now_ns;
    flow.hop = 0;
    flow.mark = 0;
    flow.state = state::word(state_bits, 0);
    // SAFETY: words in the draft.
    unsafe { words::clear(&raw mut flow.reserved) };
    Ok(flow)
}

/// Writes the drafted flow and tells of it. With `reopen`, in place of one that this packet has claimed. False: another
/// CPU was first, and the draft is not what applies.
#[inline(always)]
pub(crate) fn begin<F: Family>(source: Source, group: u64, reopen: bool) -> Result<bool, Reason> {
    match F::begin(source.pack(), source.hash, group, u32::from(reopen)) {
        MADE => Ok(true),
        NOT_FIRST => Ok(false),
        reason => Err(Reason::of((reason - FIRST_REASON) as u32)),
    }
}

/// [`begin`] of a flow whose source stays as it is, where a call would cost.
#[inline(always)]
pub(crate) fn begin_untranslated<F: Family>(group: u64) -> Result<bool, Reason> {
    write::<F>(Source::KEPT, group, false)
}

/// [`begin_untranslated`] for a flow that nobody has looked for. False: it could not be made, for whatever reason, and
/// nothing has changed.
#[inline(always)]
pub(crate) fn begin_at_once<F: Family>(group: u64) -> bool {
    let Some(room) = F::scratch(DRAFT_ROOM) else {
        return false;
    };
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flow = unsafe { &mut *room };
    complete(flow);
    let Some(reply) = reply_of::<F>(flow) else {
        return false;
    };
    if F::flows().insert(&reply.key, &*reply, u64::from(BPF_NOEXIST)).is_err() {
        return false;
    }
    if F::flows().insert(&flow.key, &*flow, u64::from(BPF_NOEXIST)).is_err() {
        take_back::<F>(flow);
        return false;
    }
    tell(flow, group);
    true
}

/// [`begun`]'s answers; from [`FIRST_REASON`] on why there is no flow.
const MADE: i32 = 0;
const NOT_FIRST: i32 = 1;
const FIRST_REASON: i32 = 2;

/// [`begin`] for IPv4. A global function, which the verifier looks at by itself.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn begin4(source: u64, hash: u32, group: u64, reopen: u32) -> i32 {
    begun::<V4>(source, hash, group, reopen)
}

/// [`begin`] for IPv6, likewise.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn begin6(source: u64, hash: u32, group: u64, reopen: u32) -> i32 {
    begun::<V6>(source, hash, group, reopen)
}

#[inline(always)]
fn begun<F: Family>(source: u64, hash: u32, group: u64, reopen: u32) -> i32 {
    match write::<F>(Source::unpack(source, hash), group, reopen != 0) {
        Ok(true) => MADE,
        Ok(false) => NOT_FIRST,
        Err(reason) => reason as i32 + FIRST_REASON,
    }
}

#[inline(always)]
fn write<F: Family>(source: Source, group: u64, reopen: bool) -> Result<bool, Reason> {
    let room = F::scratch(DRAFT_ROOM).ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    let flow = unsafe { &mut *room };
    let blocks = if source.translate { from_address::<F>(flow, source)? } else { 0 };
    complete(flow);
    let made = if reopen { take_over::<F>(flow, source, blocks) } else { insert::<F>(flow, source, blocks) };
    if !made? {
        return Ok(false);
    }
    tell(flow, group);
    Ok(true)
}

/// Fills in what follows from the rest of a draft.
#[inline(always)]
fn complete<A: Address>(flow: &mut FlowValue<A>) {
    flow.flags |= ORIGINAL;
    flow.path = state::path(state::bits(flow.state), flow.flags);
    (flow.address_delta, flow.port_delta) = deltas(&flow.key, &flow.twin);
}

/// Counts a flow whose entries are written, and tells of it.
#[inline(always)]
fn tell<A: Address>(flow: &FlowValue<A>, group: u64) {
    load::entered(flow.service_slot, flow.target);
    count(Reason::FlowCreated);
    report_now(flow, CREATED, flow.state, group, flow.epoch);
}

/// The reply entry of a drafted original, or of a copy of one, beside it.
#[inline(always)]
pub(crate) fn reply_of<F: Family>(
    flow: &FlowValue<F::Address>,
) -> Option<&'static mut FlowValue<F::Address>> {
    let room = F::scratch(REPLY_ROOM)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest; it is not the draft's.
    let reply = unsafe {
        copy_key(addr_of_mut!((*room).key), &flow.twin);
        copy_key(addr_of_mut!((*room).twin), &flow.key);
        &mut *room
    };
    reply.generation = flow.generation;
    reply.path = flow.path;
    reply.last_seen_ns = flow.last_seen_ns;
    reply.hop = 0;
    // What one direction adds to a sum, the other takes away.
    reply.address_delta = !flow.address_delta;
    reply.port_delta = !flow.port_delta;
    reply.address_index = flow.address_index;
    reply.address_stamp = flow.address_stamp;
    reply.generation_end = flow.generation_end;
    reply.state = 0;
    reply.birth_ns = flow.birth_ns;
    reply.epoch = flow.epoch;
    reply.service = flow.service;
    reply.endpoint = flow.endpoint;
    reply.flags = flow.flags ^ KIND;
    reply.mark = flow.mark;
    reply.service_slot = flow.service_slot;
    reply.target = flow.target;
    // SAFETY: words in the draft.
    unsafe { words::clear(&raw mut reply.reserved) };
    Some(reply)
}

/// Where a flow is drafted.
pub(crate) const DRAFT_ROOM: u32 = 0;
/// Where its reply entry is made.
const REPLY_ROOM: u32 = 1;

/// Inserts both entries. False: another CPU was first.
#[inline(always)]
fn insert<F: Family>(flow: &mut FlowValue<F::Address>, source: Source, blocks: u64) -> Result<bool, Reason> {
    let direct = flow.flags & FORWARDING != 0;
    if !direct && !reserve::<F>(flow, &source, blocks)? {
        return Ok(false);
    }
    match F::flows().insert(&flow.key, &*flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(true),
        Err(error) => {
            if !direct {
                take_back::<F>(flow);
            }
            if error == EEXIST { Ok(false) } else { Err(refusal(error)) }
        }
    }
}

/// Writes the reply entry, with a translated source on a free port. False: this very flow was made by another CPU.
#[inline(always)]
pub(crate) fn reserve<F: Family>(
    flow: &mut FlowValue<F::Address>,
    source: &Source,
    blocks: u64,
) -> Result<bool, Reason> {
    let reply = reply_of::<F>(flow).ok_or(Reason::FlowInsertFailed)?;
    if source.translate && !source.keep_port {
        on_a_port::<F>(source, blocks)?;
        flow.twin.destination_port_be = reply.key.destination_port_be;
        flow.port_delta = !reply.port_delta;
        return Ok(true);
    }
    match F::flows().insert(&reply.key, &*reply, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(true),
        Err(EEXIST) => match holder::<F>(reply) {
            Holder::ThisFlow => Ok(false),
            Holder::AnotherFlow => Err(Reason::ReplyTupleTaken),
            Holder::Nobody => F::flows()
                .insert(&reply.key, &*reply, u64::from(BPF_NOEXIST))
                .map(|()| true)
                .map_err(|error| if error == EEXIST { Reason::Raced } else { refusal(error) }),
        },
        Err(error) => Err(refusal(error)),
    }
}

/// A search for a port for the drafted reply of a flow.
struct Search<F> {
    family: PhantomData<F>,
    blocks: u64,
    hash: u32,
    /// What came of it.
    outcome: i32,
}

/// [`Search::outcome`]: the entry is written.
const RESERVED: i32 = 0;
/// [`Search::outcome`]: somebody has every port that was tried. Any other negative: why the kernel refused.
const NONE_FREE: i32 = 1;

/// Writes a reply entry on the first port that nobody has.
#[inline(always)]
fn on_a_port<F: Family>(source: &Source, blocks: u64) -> Result<(), Reason> {
    let mut search = Search::<F> { family: PhantomData, blocks, hash: source.hash, outcome: NONE_FREE };
    let tries = if source.first { 1 } else { PORT_TRIES };
    // A loop helper, so that the verifier looks at one try and not at all of them.
    // SAFETY: the callback has the signature that the helper calls, and `search` outlives the call.
    unsafe { bpf_loop(tries, probe::<F> as *mut c_void, addr_of_mut!(search).cast(), 0) };
    match search.outcome {
        RESERVED => Ok(()),
        NONE_FREE if source.first => Err(Reason::Miss),
        NONE_FREE => Err(Reason::PortsExhausted),
        error => Err(refusal(error)),
    }
}

extern "C" fn probe<F: Family>(attempt: u32, search: *mut Search<F>) -> i64 {
    // SAFETY: the pointer given to bpf_loop above; the draft is this CPU's own, and programs of one hook do not nest.
    let search = unsafe { &mut *search };
    let Some(room) = F::scratch(REPLY_ROOM) else {
        return 1;
    };
    // SAFETY: the same.
    let reply = unsafe { &mut *room };
    let Some(port) = port(search.blocks, search.hash, attempt) else {
        return 1;
    };
    reply.key.destination_port_be = port.to_be();
    if is_service::<F>(&reply.key) {
        return 0;
    }
    reply.port_delta = deltas(&reply.key, &reply.twin).1;
    match F::flows().insert(&reply.key, &*reply, u64::from(BPF_NOEXIST)) {
        Err(EEXIST) => 0,
        Ok(()) => {
            search.outcome = RESERVED;
            1
        }
        Err(error) => {
            search.outcome = error;
            1
        }
    }
}

/// Takes the translated address; answers the blocks of its ports.
#[inline(always)]
fn from_address<F: Family>(flow: &mut FlowValue<F::Address>, source: Source) -> Result<u64, Reason> {
    let address = ADDRESSES.get_ptr(source.index).ok_or(Reason::AddressGone)?;
    // SAFETY: a live array element that user space may be replacing; the reply of a flow with half an address would
    // not come back, and the flow would expire.
    unsafe {
        if addr_of!((*address).stamp).read_volatile() == 0 {
            return Err(Reason::AddressGone);
        }
        words::copy(&raw mut flow.twin.destination_be, &F::narrow((*address).address));
        Ok(addr_of!((*address).port_blocks).read_volatile())
    }
}

/// Whether clients may speak to this very address and port.
#[inline(always)]
fn is_service<F: Family>(reply_key: &FlowKey<F::Address>) -> bool {
    let (vip_be, port_be, protocol) =
        (reply_key.destination_be, reply_key.destination_port_be, reply_key.protocol);
    F::service(&ServiceKey { vip_be, port_be, protocol, pad: 0 }).is_some()
        || F::range(RangeKey { vip_be, protocol, pad: 0, port_be }).is_some()
}

#[inline(always)]
pub(crate) fn refusal(error: i32) -> Reason {
    match error {
        E2BIG | ENOMEM => Reason::FlowTableFull,
        _ => Reason::FlowInsertFailed,
    }
}

/// Who has the tuple of a reply.
#[derive(Clone, Copy)]
enum Holder {
    /// This very flow, made by another CPU.
    ThisFlow,
    AnotherFlow,
    /// It is free now.
    Nobody,
}

/// Looks who has the tuple of this reply. Half a flow that was left behind, by one that was reopened with another endpoint
/// and is gone since, makes room once nobody can have it in hand.
#[inline(never)]
fn holder<F: Family>(reply: &FlowValue<F::Address>) -> Holder {
    let Some(holder) = F::flows().get_ptr(&reply.key) else {
        return Holder::Nobody;
    };
    // SAFETY: a live map value; its twin's place is as good a key as a copy of it.
    let (own, half, birth_ns, seen_ns) = unsafe {
        let half = match F::flows().get_ptr(&(*holder).twin) {
            Some(original) => !same_key(addr_of!((*original).twin), &reply.key),
            None => true,
        };
        let own = same_key(addr_of!((*holder).twin), &reply.twin);
        (own, half, (*holder).birth_ns, (*holder).last_seen_ns)
    };
    let settled = |since: u64| reply.birth_ns.wrapping_sub(since) as i64 > DEAD_NS as i64;
    if half && settled(birth_ns) && settled(seen_ns) {
        let _ = F::flows().remove(&reply.key);
        return Holder::Nobody;
    }
    if own { Holder::ThisFlow } else { Holder::AnotherFlow }
}
