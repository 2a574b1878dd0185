//! Plain TCP and UDP packets that need a decision: misses, handshakes, ends of connections.

use lockstep_abi::flow::{FORWARDING, FlowKey};
use lockstep_abi::reason::Reason;
use lockstep_packet::offset::NETWORK;

use crate::atomic::write_key;
use crate::complain::finish;
use crate::count::Verdict;
use crate::direct;
use crate::family::Family;
use crate::forward::forward;
use crate::hook::Hook;
use crate::track::{Tracked, track};
use crate::transport::transport;

/// Headers that are looked at: IPv6 and TCP.
const HEADERS: u32 = NETWORK + 40 + 20;

#[inline(always)]
pub(crate) fn slow<H: Hook, F: Family>(hook: &H) -> i32 {
    finish::<H, F>(hook, decide::<H, F>(hook))
}

#[inline(always)]
fn decide<H: Hook, F: Family>(hook: &H) -> Verdict {
    hook.pull(HEADERS);
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let (key, flags) = transport::<H, F>(hook, &ip).ok_or(Reason::Malformed)??;
    let key = off_stack::<F>(&key)?;
    match track::<H, F>(hook, &ip, key, flags)? {
        Tracked::Other(action) => Ok(action),
        Tracked::Flow(translation, kind) if kind & FORWARDING == 0 => {
            forward::<H, F>(hook, &ip, key, &translation)
        }
        Tracked::Flow(translation, kind) => direct::forward::<H, F>(hook, &ip, key, &translation, kind),
    }
}

/// Moves a key to where it takes no room on the stack, which is short.
#[inline(always)]
pub(crate) fn off_stack<F: Family>(
    key: &FlowKey<F::Address>,
) -> Result<&'static FlowKey<F::Address>, Reason> {
    let room = F::key_room().ok_or(Reason::FlowInsertFailed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
    unsafe {
        write_key(room, key);
        Ok(&*room)
    }
}
