//! The way out of a packet that is no plain TCP or UDP: translated at offsets that its headers gave.

use lockstep_abi::flow::{FORWARDING, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_abi::{SCTP, TCP, UDP};
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::{TCP_CHECKSUM, UDP_CHECKSUM};
use lockstep_packet::{crc32c, sctp};

use crate::count::{Verdict, count};
use crate::direct;
use crate::family::Family;
use crate::forward::Translation;
use crate::hook::{Deltas, Tc};
use crate::hop::{self, Way};
use crate::slow::kept_key;
use crate::special::family::Special;
use crate::special::walk::{PACKET, Walk};
use crate::track::flow;

/// Where an ICMP message has its checksum, and an echo its identifier.
const ICMP_CHECKSUM: u32 = 2;
const ECHO_ID: u32 = 4;

/// Sends the packet its flow's way.
#[inline(always)]
pub(crate) fn leave<F: Special>(hook: &Tc) -> Verdict {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let walk = Walk::of(PACKET)?;
    let key = kept_key::<F>()?;
    let (translation, flags) = flow::<F>(key)?;
    if flags & FORWARDING != 0 {
        return direct::forward::<Tc, F>(hook, &ip, key, &translation);
    }
    let bytes = hook.largest_behind(walk.transport, walk.protocol);
    let way = way::<F>(hook, &ip, bytes, &translation)?;
    rewrite::<F>(hook, &ip, key, &translation)?;
    go(hook, way)
}

/// Where packets of a flow's direction go, so many bytes of them.
#[inline(always)]
pub(crate) fn way<F: Family>(
    hook: &Tc,
    ip: &Ip<F::Address>,
    bytes: u32,
    translation: &Translation<F::Address>,
) -> Result<Way, Reason> {
    if !ip.may_be_forwarded() {
        return Err(Reason::TtlExceeded);
    }
    if let Some(hop) = hop::kept::<Tc>(translation.hop, || bytes) {
        return Ok(Way::Known(hop, 0));
    }
    let twin = translation.twin();
    let way = hop::find::<Tc, F>(hook, bytes, ip.protocol, &twin.destination_be, &twin.source_be)?;
    if let Way::Known(_, word) = way {
        translation.keep_hop(word);
    }
    Ok(way)
}

/// Sends the packet.
#[inline(always)]
pub(crate) fn go(hook: &Tc, way: Way) -> Verdict {
    let action = match way {
        Way::Known(hop, _) => hop::send(hook, &hop)?,
        Way::Unresolved(fib) => hop::resolve(fib)?,
    };
    count(Reason::ForwardedSlow);
    Ok(action)
}

/// Writes new addresses, ports, time to live and checksums. What was written is believed when the entry is proven
/// afterwards.
#[inline(never)]
fn rewrite<F: Special>(
    hook: &Tc,
    ip: &Ip<F::Address>,
    key: &FlowKey<F::Address>,
    translation: &Translation<F::Address>,
) -> Result<(), Reason> {
    let walk = Walk::of(PACKET)?;
    let twin = translation.twin();
    if !walk.is_later() {
        let ports = [twin.destination_port_be, twin.source_port_be];
        transport::<F>(hook, walk, ports, translation.deltas)?;
    }
    // Last: pointers do not outlive the helpers.
    F::rewrite(hook, ip, twin, translation.deltas).ok_or(Reason::RewriteFailed)?;
    translation.prove(key)
}

#[inline(always)]
fn transport<F: Special>(hook: &Tc, walk: &Walk, ports: [u16; 2], deltas: Deltas) -> Result<(), Reason> {
    let at = walk.transport;
    match walk.protocol {
        TCP => hook.mend_by_helper(at + TCP_CHECKSUM, deltas, false)?,
        UDP => hook.mend_by_helper(at + UDP_CHECKSUM, deltas, true)?,
        SCTP => return sctp(hook, walk, ports),
        _ => {
            let addresses = if F::ICMP_COVERS_ADDRESSES { deltas.addresses } else { 0 };
            hook.mend_by_helper(at + ICMP_CHECKSUM, Deltas { addresses, ..deltas }, false)?;
            let id_be = if walk.icmp == F::ECHO_REQUEST { ports[0] } else { ports[1] };
            return hook.store(at + ECHO_ID, &id_be);
        }
    }
    hook.store(at, &ports)
}

/// The CRC covers the ports and not the addresses. That of a fragment covers the whole packet, whose length only the
/// last one shows: then the ports must stay.
#[inline(always)]
fn sctp(hook: &Tc, walk: &Walk, ports: [u16; 2]) -> Result<(), Reason> {
    let at = walk.transport;
    let old: [u16; 2] = hook.load(at).ok_or(Reason::Malformed)?;
    if old[0] == ports[0] && old[1] == ports[1] {
        return Ok(());
    }
    if walk.more {
        return Err(Reason::Fragment);
    }
    let checksum_at = at + sctp::CHECKSUM as u32;
    let checksum: u32 = hook.load(checksum_at).ok_or(Reason::Malformed)?;
    hook.store(checksum_at, &sctp_checksum(checksum, word(old), word(ports), walk.bytes))?;
    hook.store(at, &ports)
}

#[inline(always)]
fn word(ports: [u16; 2]) -> u32 {
    let ([a, b], [c, d]) = (ports[0].to_ne_bytes(), ports[1].to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// [`crc32c::ports_changed`], in words as they lie in the packet. A global function, which the verifier looks at by
/// itself. An aggregate is longer than its own account can say, but then a device is to make the checksum.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn sctp_checksum(checksum: u32, from: u32, to: u32, bytes: u32) -> u32 {
    u32::from_ne_bytes(crc32c::ports_changed(
        checksum.to_ne_bytes(),
        from.to_ne_bytes(),
        to.to_ne_bytes(),
        bytes & 0xffff,
    ))
}
