//! Packets that need a decision: misses, handshakes, ends of connections, fragments, options.

use core::ptr::{addr_of, copy_nonoverlapping};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lockstep_abi::flow::{FlowKey4, FlowValue4, REPLY};
use lockstep_abi::reason::Reason;
use lockstep_abi::timeout::DEAD_NS;
use lockstep_packet::ipv4::Ipv4;
use lockstep_packet::transition::may_open;

use crate::atomic;
use crate::change::{Next, change};
use crate::count::{Verdict, action, count};
use crate::create::{create, no_flow};
use crate::forward::{forward, take, touch};
use crate::guard::{self, guarded, not_served};
use crate::lease::{may_begin, permitted, precise_ns};
use crate::maps::{ADDRESS_INDEX, FLOWS, SCRATCH};
use crate::skb;

#[classifier]
pub fn slow(ctx: TcContext) -> i32 {
    action(decide(&ctx))
}

#[inline(always)]
fn decide(ctx: &TcContext) -> Verdict {
    let ip = skb::ipv4(ctx)?;
    if ip.fragment || ip.options {
        return untracked(ctx, &ip);
    }
    let (key, flags) = skb::transport(ctx, &ip)?;
    let next = hit(&key, flags)?;
    if next != Next::Forward {
        let Some(&index) = address_index(key.destination_be) else {
            return not_served(ctx, &ip, guarded(guard::port(&key)), Reason::ReplyWithoutFlow);
        };
        let (address, lease) = permitted(index, key.destination_be)?;
        if !may_open(ip.protocol, flags) {
            return Err(no_flow(&key, address));
        }
        // A flow to be reopened was asked about before it was claimed.
        if next == Next::Open {
            may_begin(lease)?;
        }
        create(&key, index, address, lease, next == Next::Reopen)?;
    }
    let entry = FLOWS.get_ptr_mut(&key).ok_or(Reason::Raced)?;
    // SAFETY: a live map value.
    let translation = unsafe { take(entry, &key) }?;
    // SAFETY: a live map value.
    unsafe { touch(entry) };
    let verdict = forward(ctx, &ip, &translation)?;
    count(Reason::ForwardedSlow);
    Ok(verdict)
}

/// A packet's flow, if there is one: lease, state, event.
#[inline(always)]
fn hit(key: &FlowKey4, flags: u8) -> Result<Next, Reason> {
    let Some(entry) = FLOWS.get_ptr_mut(key) else {
        return Ok(Next::Open);
    };
    // SAFETY: a live map value.
    let translation = unsafe { take(entry, key) }?;
    let reply = translation.kind == REPLY;
    let vip = if reply { translation.twin.destination_be } else { key.destination_be };
    let (address, lease) = permitted(translation.address_index, vip)?;
    let twin = match FLOWS.get_ptr_mut(&translation.twin) {
        Some(twin) => twin,
        // SAFETY: a live map value.
        None if reply => return Err(unsafe { orphan(entry, key) }),
        // SAFETY: a live map value.
        None => unsafe { repair(entry, key, &translation.twin) }?,
    };
    // SAFETY: a live map value.
    if unsafe { atomic::read_key(addr_of!((*twin).twin)) } != *key {
        // The flow has gone on to another endpoint: it was reopened, and this entry waits for the sweeper.
        return Err(Reason::FlowDead);
    }
    let (original, other) = if reply { (twin, entry) } else { (entry, twin) };
    // SAFETY: both point to live map values.
    unsafe { change(original, other, reply, flags, address.group, lease) }
}

/// A reply entry without an original: the state is lost, so it goes, unless the original may be on its way.
///
/// # Safety
/// `entry` points to a live value of the flow map.
#[inline(always)]
unsafe fn orphan(entry: *const FlowValue4, key: &FlowKey4) -> Reason {
    // SAFETY: the caller's promise.
    let age = precise_ns().wrapping_sub(unsafe { (*entry).birth_ns }) as i64;
    if age < DEAD_NS as i64 {
        return Reason::Raced;
    }
    let _ = FLOWS.remove(key);
    Reason::TwinMissing
}

/// Writes the reply entry that an original has lost: everything it says, the original says too.
///
/// # Safety
/// `original` points to a live value of the flow map.
#[inline(always)]
unsafe fn repair(
    original: *const FlowValue4,
    key: &FlowKey4,
    twin: &FlowKey4,
) -> Result<*mut FlowValue4, Reason> {
    // Too large for the stack beside everything else.
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::TwinMissing)?;
    // SAFETY: the caller's promise; the element is this CPU's own, and programs of one hook do not nest.
    unsafe {
        copy_nonoverlapping(original, scratch, 1);
        // It may have been taken over while it was copied.
        let now = take(original, key)?;
        if now.twin != *twin || (*scratch).generation != (*scratch).generation_end {
            return Err(Reason::Raced);
        }
        (*scratch).kind = REPLY;
        (*scratch).twin = *key;
        (*scratch).key = *twin;
        // What one direction adds to a sum, the other takes away.
        (*scratch).address_delta = !(*scratch).address_delta;
        (*scratch).port_delta = !(*scratch).port_delta;
        (*scratch).state = 0;
        let _ = FLOWS.insert(twin, &*scratch, u64::from(BPF_NOEXIST));
    }
    count(Reason::TwinRepaired);
    FLOWS.get_ptr_mut(twin).ok_or(Reason::TwinMissing)
}

#[inline(always)]
fn address_index(address_be: u32) -> Option<&'static u32> {
    // SAFETY: elements of this map are replaced only while their address is not in use.
    unsafe { ADDRESS_INDEX.get(&address_be) }
}

/// Fragments and packets with IP options have no flow in this version.
#[inline(always)]
fn untracked(ctx: &TcContext, ip: &Ipv4) -> Verdict {
    let reason = if ip.fragment { Reason::Fragment } else { Reason::IpOptions };
    if let Some(&index) = address_index(ip.destination_be) {
        permitted(index, ip.destination_be)?;
        return Err(reason);
    }
    not_served(ctx, ip, guarded(guard::address(ip.source_be)), reason)
}
