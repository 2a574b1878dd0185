//! Packets that are not for an owned address and belong to no flow: the reply guard (I10), and transit.

use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::TcContext;
use lockstep_abi::address::TRANSIT_GROUPS;
use lockstep_abi::flow::FlowKey4;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::GuardKey;
use lockstep_packet::ipv4::Ipv4;

use crate::count::{Verdict, pass};
use crate::forward::{no_route, route};
use crate::lease::held;
use crate::maps::{GUARDS, TRANSIT};

/// The guard's key for a packet with ports.
#[inline(always)]
pub(crate) fn port(key: &FlowKey4) -> GuardKey {
    GuardKey { address_be: key.source_be, port_be: key.source_port_be, protocol: key.protocol, pad: 0 }
}

/// The guard's key for a packet that shows none.
#[inline(always)]
pub(crate) fn address(source_be: u32) -> GuardKey {
    GuardKey { address_be: source_be, port_be: 0, protocol: 0, pad: 0 }
}

/// Whether an endpoint sent it.
#[inline(always)]
pub(crate) fn guarded(key: GuardKey) -> bool {
    let Some(guard) = GUARDS.get_ptr(&key) else {
        return false;
    };
    // The read keeps the compiler from combining the pointer with another one, which the verifier refuses.
    // SAFETY: a live map value.
    let _ = unsafe { addr_of!((*guard).lease_slot).read_volatile() };
    true
}

/// Passes what is for this node itself. Of the rest, what an endpoint sent is dropped for `reason`, and what
/// comes from an endpoint-side network needs a lease: the kernel's own forwarding must not show to a client
/// what only the owner may translate.
#[inline(always)]
pub(crate) fn not_served(ctx: &TcContext, ip: &Ipv4, guarded: bool, reason: Reason) -> Verdict {
    let transit = if guarded { None } else { TRANSIT.get(Key::new(32, ip.source_be)) };
    let groups = match transit {
        // SAFETY: a live map value.
        Some(transit) => unsafe { addr_of!(transit.count).read_volatile() },
        None => 0,
    };
    if !guarded && groups == 0 {
        return pass(Reason::PassLocal);
    }
    let mut params = no_route();
    let fate = route(ctx, ip.protocol, ip.source_be, ip.destination_be, &mut params);
    if fate == BPF_FIB_LKUP_RET_NOT_FWDED || fate == BPF_FIB_LKUP_RET_FWD_DISABLED {
        return pass(Reason::PassLocal);
    }
    if guarded {
        return Err(reason);
    }
    if let Some(transit) = transit {
        for i in 0..TRANSIT_GROUPS {
            if i as u32 >= groups {
                break;
            }
            if held(transit.slots[i]).is_some() {
                return pass(Reason::PassTransit);
            }
        }
    }
    Err(Reason::TransitWithoutLease)
}
