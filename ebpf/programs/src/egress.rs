//! What is for none of the group's addresses and belongs to no flow: answers that nobody translated, connections that
//! begin behind the balancer, and what merely passes.

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED};
use aya_ebpf::helpers::generated::bpf_loop;
use lockstep_abi::address::AddressValue;
use lockstep_abi::flow::{Address, FlowKey};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::reason::Reason;
use lockstep_abi::snat::{EXEMPT, RULE_ADDRESSES, SET_RULES, STATIC, SnatRule};
use lockstep_packet::ip::Ip;
use lockstep_packet::select::flow_hash;
use lockstep_packet::transition::{first, may_open};

use crate::choose::NOBODY;
use crate::count::Verdict;
use crate::create::Addressed;
use crate::family::Family;
use crate::guard::{self, answers, answers_from_its_port, transit};
use crate::hook::Hook;
use crate::hop::route;
use crate::insert::{Source, begin, draft};
use crate::lease::{may_begin, permitted_now, precise_ns};
use crate::maps::SNAT_SETS;
use crate::track::Tracked;
use crate::words;

/// Decides about a packet with ports; with `reopen`, one that has claimed a flow which was over.
#[inline(always)]
pub(crate) fn outbound<H: Hook, F: Family>(
    hook: &H,
    key: &FlowKey<F::Address>,
    flags: u8,
    reopen: bool,
) -> Result<Tracked, Reason> {
    let guarded = answers::<F>(key, flags);
    if !guarded && F::transit(&key.source_be).is_none() {
        return hook.pass(Reason::PassLocal).map(Tracked::Action);
    }
    if stays::<H, F>(hook, key.protocol, &key.source_be, &key.destination_be) {
        return hook.pass(Reason::PassLocal).map(Tracked::Action);
    }
    let (mut passes, mut guarded) = (Reason::PassTransit, guarded);
    if let Some(rule) = rule::<F>(key) {
        // An endpoint of every port could begin nothing of its own: only a service's own port tells an answer.
        (passes, guarded) = (Reason::PassExempt, answers_from_its_port::<F>(key, flags));
        if rule.action != EXEMPT && !guarded {
            return translate::<F>(key, flags, rule, reopen).map(made);
        }
    }
    // Whatever rules say: it would leave with another address than the client knows, and a flow of its own would keep
    // that tuple from the client's.
    if guarded {
        return Err(Reason::ReplyWithoutFlow);
    }
    transit::<H, F>(hook, &key.source_be, passes).map(Tracked::Action)
}

/// The flow was made here, or by another CPU.
#[inline(always)]
const fn made(first: bool) -> Tracked {
    if first { Tracked::Made(NOBODY) } else { Tracked::Flow }
}

/// The same for a packet that shows no ports, or is of a protocol without flows; `reason` is why one that an endpoint
/// sent is dropped, `None` that it need not be.
#[inline(always)]
pub(crate) fn portless<H: Hook, F: Family>(hook: &H, ip: &Ip<F::Address>, reason: Option<Reason>) -> Verdict {
    let guarded = reason.is_some() && guard::is_endpoint::<F>(&ip.source_be);
    if !guarded && F::transit(&ip.source_be).is_none() {
        return hook.pass(Reason::PassLocal);
    }
    if stays::<H, F>(hook, ip.protocol, &ip.source_be, &ip.destination_be) {
        return hook.pass(Reason::PassLocal);
    }
    match reason {
        Some(reason) if guarded => Err(reason),
        _ => transit::<H, F>(hook, &ip.source_be, Reason::PassTransit),
    }
}

/// Whether the kernel would keep the packet for this node.
#[inline(never)]
fn stays<H: Hook, F: Family>(
    hook: &H,
    protocol: u8,
    source_be: &F::Address,
    destination_be: &F::Address,
) -> bool {
    let Some((fate, _)) = route::<H, F>(hook, 0, protocol, source_be, destination_be) else {
        return false;
    };
    fate == BPF_FIB_LKUP_RET_NOT_FWDED || fate == BPF_FIB_LKUP_RET_FWD_DISABLED
}

/// A search for the first rule of a set that applies.
struct Search {
    set: u32,
    destination: [u32; 4],
    protocol: u32,
    port: u16,
    found: u32,
}

/// The first rule that applies.
#[inline(never)]
fn rule<F: Family>(key: &FlowKey<F::Address>) -> Option<&'static SnatRule> {
    let mut search = Search {
        set: F::snat_set(&key.source_be)?,
        destination: key.destination_be.wide(),
        protocol: u32::from(key.protocol),
        port: u16::from_be(key.destination_port_be),
        found: u32::MAX,
    };
    // A loop helper, so that the verifier looks at one rule and not at all of them.
    // SAFETY: the callback has the signature that the helper calls, and `search` outlives the call.
    unsafe { bpf_loop(SET_RULES as u32, applies as *mut c_void, addr_of_mut!(search).cast(), 0) };
    let set = SNAT_SETS.get(search.set)?;
    if search.found as usize >= SET_RULES { None } else { Some(&set.rules[search.found as usize]) }
}

extern "C" fn applies(round: u32, search: *mut Search) -> i64 {
    // SAFETY: the pointer given to bpf_loop above.
    let search = unsafe { &mut *search };
    let Some(set) = SNAT_SETS.get(search.set) else {
        return 1;
    };
    if round >= set.count || round as usize >= SET_RULES {
        return 1;
    }
    let rule = &set.rules[round as usize];
    let mut differs = 0;
    for word in 0..4 {
        differs |= (search.destination[word] & rule.destination_mask[word]) ^ rule.destination[word];
    }
    let protocol = rule.protocol == 0 || rule.protocol == search.protocol;
    if differs == 0 && protocol && search.port >= rule.first_port && search.port <= rule.last_port {
        search.found = round;
        return 1;
    }
    0
}

/// Makes the flow of a connection that begins behind the balancer.
#[inline(always)]
fn translate<F: Family>(
    key: &FlowKey<F::Address>,
    flags: u8,
    rule: &SnatRule,
    reopen: bool,
) -> Result<bool, Reason> {
    let hash = flow_hash(key);
    if rule.to_count == 0 {
        return Err(Reason::PortsExhausted);
    }
    let chosen = (hash % rule.to_count) as usize & (RULE_ADDRESSES - 1);
    let keep_port = rule.action == STATIC;
    let source = Source { translate: true, keep_port, first: false, index: rule.to[chosen], hash };
    let (address, lease) = permitted_now(source.index)?;
    if !may_open(key.protocol, flags) {
        return Err(Reason::Miss);
    }
    may_begin(lease)?;
    let ends = Ends { index: source.index, address, lease, rule: rule.id, host: None };
    make::<F>(key, &ends, source, reopen)
}

/// Makes the flow of a connection to a static address, which goes on to the host.
#[inline(always)]
pub(crate) fn inbound<F: Family>(
    key: &FlowKey<F::Address>,
    addressed: &Addressed,
    reopen: bool,
) -> Result<Tracked, Reason> {
    let Addressed { index, value: address, lease, .. } = *addressed;
    let ends = Ends { index, address, lease, rule: 0, host: Some(&address.static_host) };
    make::<F>(key, &ends, Source::KEPT, reopen).map(made)
}

/// What a flow that no service made is made of.
struct Ends<'a> {
    index: u32,
    address: &'a AddressValue,
    lease: &'a LeaseValue,
    rule: u64,
    /// Where it goes, if not where it was sent.
    host: Option<&'a [u32; 4]>,
}

#[inline(always)]
fn make<F: Family>(
    key: &FlowKey<F::Address>,
    ends: &Ends<'_>,
    source: Source,
    reopen: bool,
) -> Result<bool, Reason> {
    if F::stays_on_link(key) {
        return Err(Reason::SourceStaysOnLink);
    }
    let flow = draft::<F>(key, first(key.protocol), precise_ns())?;
    // SAFETY: a key in the draft.
    unsafe { words::reverse(&raw mut flow.twin, key) };
    if let Some(host) = ends.host {
        flow.twin.source_be = F::narrow(*host);
    }
    flow.address_index = ends.index as u16;
    // SAFETY: a live array element; one aligned word.
    flow.address_stamp = unsafe { addr_of!(ends.address.stamp).read_volatile() } as u16;
    flow.epoch = ends.lease.epoch;
    flow.service = ends.rule;
    flow.endpoint = 0;
    flow.flags = 0;
    flow.service_slot = 0;
    flow.target = 0;
    begin::<F>(source, ends.address.group, reopen)
}
