//! Translation and the way out.

use core::ptr::{addr_of, addr_of_mut};

use lockstep_abi::UDP;
use lockstep_abi::flow::{Address, FlowKey, FlowValue};
use lockstep_abi::reason::Reason;
use lockstep_packet::ip::Ip;

use crate::atomic::same_key;
use crate::count::{Verdict, count};
use crate::family::Family;
use crate::hook::{Deltas, Hook};
use crate::hop::{self, Hop, Way};
use crate::lease::tick_ns;
use crate::transport::checksum_offset;

/// What a packet of one direction needs of its flow, beside the addresses, which are taken out of the entry when the
/// packet is rewritten.
pub(crate) struct Translation<A> {
    entry: *mut FlowValue<A>,
    generation: u32,
    pub(crate) hop: u32,
    pub(crate) address_index: u32,
    pub(crate) address_stamp: u32,
    pub(crate) deltas: Deltas,
}

impl<A: Address> Translation<A> {
    /// # Safety
    /// `entry` points to a live value of the flow map.
    #[inline(always)]
    pub(crate) unsafe fn of(entry: *mut FlowValue<A>) -> Self {
        // SAFETY: the caller's promise; each read is volatile because the memory may be reused while it is read,
        // and their order is the protocol (see FlowValue).
        unsafe {
            Self {
                entry,
                generation: addr_of!((*entry).generation_end).read_volatile(),
                hop: addr_of!((*entry).hop).read_volatile(),
                address_index: u32::from(addr_of!((*entry).address_index).read_volatile()),
                address_stamp: u32::from(addr_of!((*entry).address_stamp).read_volatile()),
                deltas: Deltas {
                    addresses: addr_of!((*entry).address_delta).read_volatile(),
                    ports: addr_of!((*entry).port_delta).read_volatile(),
                },
            }
        }
    }

    /// The other entry's key, where it stands.
    #[inline(always)]
    pub(crate) fn twin(&self) -> &FlowKey<A> {
        // SAFETY: a live value of the flow map, as long as the program runs; who reads it asks `proves` afterwards.
        unsafe { &(*self.entry).twin }
    }

    /// The entry.
    #[inline(always)]
    pub(crate) fn entry(&self) -> *mut FlowValue<A> {
        self.entry
    }

    /// Keeps the flow's next hop in its entry. If that has become another flow's meanwhile, the other asks for itself.
    #[inline(always)]
    pub(crate) fn keep_hop(&self, word: u32) {
        // SAFETY: a live value of the flow map; one aligned word.
        unsafe {
            let hop = addr_of_mut!((*self.entry).hop);
            hop.write_volatile(word);
            if addr_of!((*self.entry).generation).read_volatile() != self.generation {
                hop.write_volatile(0);
            }
        }
    }

    /// Proves that the entry was this flow's all the time, after everything has been taken out of it.
    #[inline(always)]
    pub(crate) fn prove(&self, key: &FlowKey<A>) -> Result<(), Reason> {
        // SAFETY: a live value of the flow map.
        unsafe {
            if addr_of!((*self.entry).generation).read_volatile() == self.generation
                && same_key(addr_of!((*self.entry).key), key)
            {
                Ok(())
            } else {
                Err(Reason::FlowRecycled)
            }
        }
    }
}

/// Notes that the direction is in use. Once a tick at most, so that a busy flow does not dirty its cache line with
/// each packet.
///
/// # Safety
/// `entry` points to a live value of the flow map.
#[inline(always)]
pub(crate) unsafe fn touch<A>(entry: *mut FlowValue<A>) {
    let now = tick_ns();
    // SAFETY: the caller's promise; one aligned word, of which any recent value will do.
    unsafe {
        if addr_of!((*entry).last_seen_ns).read_volatile() != now {
            addr_of_mut!((*entry).last_seen_ns).write_volatile(now);
        }
    }
}

/// Rewrites the packet and sends it to a next hop.
#[inline(always)]
pub(crate) fn leave<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
    hop: &Hop,
) -> Verdict {
    rewrite::<H, F>(hook, ip, key, translation)?;
    hop::send(hook, hop)
}

/// Rewrites the packet and sends it where the flow's packets go, or else where the routing table says; what that
/// says is kept in the entry.
#[inline(always)]
pub(crate) fn forward<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Verdict {
    let keep = |word| translation.keep_hop(word);
    on_its_way::<H, F>(hook, ip, key, translation, keep)
}

/// The same for a flow that was made just now and is still where it was drafted; it goes to the endpoint of this index.
#[inline(always)]
pub(crate) fn begun<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
    endpoint: u32,
) -> Verdict {
    let keep = |word| {
        if let Some(entry) = F::flows().get_ptr_mut(key) {
            // SAFETY: a live map value.
            let made = unsafe { Translation::of(entry) };
            if made.generation == translation.generation {
                made.keep_hop(word);
            }
        }
        hop::keep_for_endpoint::<F>(endpoint, &translation.twin().source_be, word);
    };
    on_its_way::<H, F>(hook, ip, key, translation, keep)
}

/// Rewrites the packet that has made a flow by its draft, and sends it to the next hop that stands there. `None`: that is
/// none that is good.
#[inline(always)]
pub(crate) fn by_drafted_hop<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<Option<i32>, Reason> {
    if !ip.may_be_forwarded() {
        return Err(Reason::TtlExceeded);
    }
    match hop::kept::<H>(translation.hop, || hook.largest(F::TRANSPORT, ip.protocol)) {
        Some(hop) => by_hop::<H, F>(hook, ip, translation, &hop).map(Some),
        None => Ok(None),
    }
}

/// Rewrites a packet by the draft of the flow that it has made, and sends it to this next hop.
#[inline(always)]
pub(crate) fn by_hop<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    translation: &Translation<F::Address>,
    hop: &Hop,
) -> Verdict {
    write::<H, F>(hook, ip, translation)?;
    counted(hop::send(hook, hop))
}

#[inline(always)]
fn on_its_way<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
    keep: impl FnOnce(u32),
) -> Verdict {
    if !ip.may_be_forwarded() {
        return Err(Reason::TtlExceeded);
    }
    let bytes = hook.largest(F::TRANSPORT, ip.protocol);
    let way = match hop::kept::<H>(translation.hop, || bytes) {
        Some(hop) => Way::Known(hop, 0),
        None => {
            let twin = translation.twin();
            let way = hop::find::<H, F>(hook, bytes, ip.protocol, &twin.destination_be, &twin.source_be)?;
            if let Way::Known(_, word) = way {
                keep(word);
            }
            way
        }
    };
    match way {
        Way::Known(hop, _) => {
            rewrite::<H, F>(hook, ip, key, translation)?;
            counted(hop::send(hook, &hop))
        }
        Way::Unresolved(_) if H::IN_FRONT => hook.pass(Reason::XdpPassed),
        Way::Unresolved(fib) => {
            rewrite_slowly::<H, F>(hook, ip, key, translation)?;
            counted(hop::resolve(fib))
        }
    }
}

/// [`rewrite`] with a stack of its own.
#[inline(never)]
fn rewrite_slowly<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<(), Reason> {
    rewrite::<H, F>(hook, ip, key, translation)
}

#[inline(always)]
fn counted(verdict: Verdict) -> Verdict {
    if verdict.is_ok() {
        count(Reason::ForwardedSlow);
    }
    verdict
}

/// Writes new addresses, ports, time to live and checksums of a plain TCP or UDP packet. What was written is believed
/// when the entry is proven afterwards.
#[inline(always)]
fn rewrite<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<(), Reason> {
    write::<H, F>(hook, ip, translation)?;
    translation.prove(key)
}

#[inline(always)]
fn write<H: Hook, F: Family>(
    hook: &H,
    ip: &Ip<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<(), Reason> {
    // First: pointers do not outlive it.
    hook.mend_checksum(checksum_offset::<F>(ip.protocol), translation.deltas, ip.protocol == UDP)?;
    let twin = translation.twin();
    F::rewrite(hook, ip, twin, translation.deltas).ok_or(Reason::RewriteFailed)?;
    let ports = hook.at::<[u16; 2]>(F::TRANSPORT).ok_or(Reason::RewriteFailed)?;
    // SAFETY: in bounds; the eBPF machine writes words at any address.
    unsafe { *ports = [twin.destination_port_be, twin.source_port_be] };
    Ok(())
}
