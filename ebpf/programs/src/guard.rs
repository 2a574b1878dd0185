//! Packets that are not for an owned address and belong to no flow: the reply guard (I10), and transit.

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::generated::bpf_loop;
use lockstep_abi::address::{TRANSIT_GROUPS, TransitValue};
use lockstep_abi::flow::FlowKey;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::GuardKey;
use lockstep_packet::l4;

use crate::count::Verdict;
use crate::family::Family;
use crate::hook::Hook;
use crate::lease::held;

/// Whether this may be an answer of a service's endpoint. What opens a connection of its own is none.
#[inline(never)]
pub(crate) fn answers<F: Family>(key: &FlowKey<F::Address>, flags: u8) -> bool {
    let (address_be, protocol) = (key.source_be, key.protocol);
    answers_from_its_port::<F>(key, flags)
        || (!l4::opens(flags) && guarded::<F>(&GuardKey { address_be, port_be: 0, protocol, pad: 0 }))
}

/// The same, of a service whose endpoints answer from this port and not from any: port 0 stands for that.
#[inline(never)]
pub(crate) fn answers_from_its_port<F: Family>(key: &FlowKey<F::Address>, flags: u8) -> bool {
    let (address_be, port_be, protocol) = (key.source_be, key.source_port_be, key.protocol);
    port_be != 0 && !l4::opens(flags) && guarded::<F>(&GuardKey { address_be, port_be, protocol, pad: 0 })
}

/// Whether an endpoint sent it, of a packet that shows no port.
#[inline(always)]
pub(crate) fn is_endpoint<F: Family>(source_be: &F::Address) -> bool {
    guarded::<F>(&GuardKey { address_be: *source_be, port_be: 0, protocol: 0, pad: 0 })
}

#[inline(always)]
fn guarded<F: Family>(key: &GuardKey<F::Address>) -> bool {
    let Some(guard) = F::guard(key) else {
        return false;
    };
    // The read keeps the compiler from combining the pointer with another one, which the verifier refuses.
    // SAFETY: a live map value.
    let _ = unsafe { addr_of!((*guard).lease_slot).read_volatile() };
    true
}

/// A search for a group of a network whose lease is held here.
struct Search<'a> {
    transit: &'a TransitValue,
    held: bool,
}

/// What comes from an endpoint-side network needs a lease: the kernel's own forwarding must not show to a client
/// what only the owner may translate.
#[inline(always)]
pub(crate) fn transit<H: Hook, F: Family>(hook: &H, source_be: &F::Address, reason: Reason) -> Verdict {
    if may_cross::<F>(source_be) { hook.pass(reason) } else { Err(Reason::TransitWithoutLease) }
}

#[inline(never)]
fn may_cross<F: Family>(source_be: &F::Address) -> bool {
    let Some(transit) = F::transit(source_be) else {
        return false;
    };
    let mut search = Search { transit, held: false };
    // A loop helper, so that the verifier looks at one group and not at all of them.
    // SAFETY: the callback has the signature that the helper calls, and `search` outlives the call.
    unsafe { bpf_loop(TRANSIT_GROUPS as u32, lease as *mut c_void, addr_of_mut!(search).cast(), 0) };
    search.held
}

extern "C" fn lease(round: u32, search: *mut Search<'_>) -> i64 {
    // SAFETY: the pointer given to bpf_loop above.
    let search = unsafe { &mut *search };
    let round = round as usize;
    if round >= TRANSIT_GROUPS || round as u32 >= search.transit.count {
        return 1;
    }
    search.held = held(search.transit.slots[round]).is_some();
    i64::from(search.held)
}
