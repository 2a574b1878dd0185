//! The sweeper's kernel half; see `lockstep_abi::age`.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::programs::TcContext;
use lockstep_abi::age::{
    ABSENT, AGE_BATCH, AGE_HEADER, ALIVE, AgeEntry, DYING, FORCE, FREED, MARKED, NOT_OWNER,
};
use lockstep_abi::flow::{FORWARDING, FlowValue, ORIGINAL, PATH_DEAD};
use lockstep_abi::service::Timeouts;
use lockstep_abi::state;
use lockstep_abi::timeout::{self, DEAD_NS, idle_ns};

use crate::atomic;
use crate::family::Family;
use crate::lease::{permitted, precise_ns};
use crate::load;
use crate::maps::SERVICE_TIMEOUTS;

/// The packet, and how many entries were considered.
struct Run<F> {
    ctx: TcContext,
    done: i32,
    family: PhantomData<F>,
}

#[inline(always)]
pub(crate) fn age<F: Family>(ctx: TcContext) -> i32 {
    let mut run = Run::<F> { ctx, done: 0, family: PhantomData };
    // A loop helper, so that the verifier looks at one round and not at all of them.
    // SAFETY: the callback has the signature that the helper calls, and `run` outlives the call.
    unsafe { bpf_loop(AGE_BATCH as u32, round::<F> as *mut c_void, addr_of_mut!(run).cast(), 0) };
    run.done
}

extern "C" fn round<F: Family>(index: u32, run: *mut Run<F>) -> i64 {
    // SAFETY: the pointer given to bpf_loop above.
    let run = unsafe { &mut *run };
    let offset = AGE_HEADER + index as usize * size_of::<AgeEntry<F::Address>>();
    let Ok(mut entry) = run.ctx.load::<AgeEntry<F::Address>>(offset) else {
        return 1;
    };
    entry.outcome = consider::<F>(&mut entry);
    if run.ctx.store(offset, &entry, 0).is_err() {
        return 1;
    }
    run.done += 1;
    0
}

#[inline(always)]
fn consider<F: Family>(entry: &mut AgeEntry<F::Address>) -> u32 {
    let Some(original) = F::flows().get_ptr_mut(&entry.key) else {
        return ABSENT;
    };
    // SAFETY: a live map value; words that packets change are read and written one at a time.
    unsafe {
        if (*original).kind() != ORIGINAL {
            return ABSENT;
        }
        let forced = entry.flags & FORCE != 0;
        let mut seen = addr_of!((*original).last_seen_ns).read_volatile();
        if !forced {
            let address = u32::from((*original).address_index);
            match permitted(address, u32::from((*original).address_stamp)) {
                Ok((_, lease)) => seen = later(seen, lease.since_ns),
                Err(_) => return NOT_OWNER,
            }
        }
        let word = addr_of!((*original).state).read_volatile();
        let bits = state::bits(word);
        // Where it stands is as good a key as a copy, which the stack has no room for.
        let twin_key = &(*original).twin;
        let direct = (*original).flags & FORWARDING != 0;
        let now = precise_ns();
        entry.birth_ns = (*original).birth_ns;
        if bits & state::DEAD != 0 {
            entry.n = state::n(word);
            let died = addr_of!((*original).last_seen_ns).read_volatile();
            if (now.wrapping_sub(died) as i64) < DEAD_NS as i64 {
                return DYING;
            }
            // A packet may be about to put another flow here.
            let claimed = state::word(bits | state::CLAIMED, entry.n);
            if bits & state::CLAIMED != 0 || !atomic::swap(addr_of_mut!((*original).state), word, claimed) {
                return DYING;
            }
            if !direct {
                let _ = F::flows().remove(twin_key);
            }
            let _ = F::flows().remove(&entry.key);
            return FREED;
        }
        let twin = if direct { None } else { F::flows().get_ptr_mut(twin_key) };
        if let Some(twin) = twin {
            seen = later(seen, addr_of!((*twin).last_seen_ns).read_volatile());
        }
        if !forced && (now.wrapping_sub(seen) as i64) < limit_ns(original, entry.key.protocol, bits) as i64 {
            return ALIVE;
        }
        let n = state::n(word).wrapping_add(1);
        if !atomic::swap(addr_of_mut!((*original).state), word, state::word(bits | state::DEAD, n)) {
            return ALIVE;
        }
        addr_of_mut!((*original).last_seen_ns).write_volatile(now);
        addr_of_mut!((*original).path).write_volatile(PATH_DEAD);
        if let Some(twin) = twin {
            addr_of_mut!((*twin).path).write_volatile(PATH_DEAD);
        }
        if state::counts(bits) {
            load::left(original);
        }
        entry.n = n;
        MARKED
    }
}

/// How long the flow may be idle: its service says, as long as that exists.
///
/// # Safety
/// `original` points to a live value of the flow map.
#[inline(always)]
unsafe fn limit_ns<A>(original: *const FlowValue<A>, protocol: u8, bits: u32) -> u64 {
    // SAFETY: the caller's promise.
    let (slot, service) = unsafe { (u32::from((*original).service_slot), (*original).service) };
    let timeouts: Option<&Timeouts> = SERVICE_TIMEOUTS.get(slot);
    match timeouts {
        Some(timeouts) if slot != 0 && timeouts.service == service => idle_ns(protocol, bits, timeouts),
        _ => idle_ns(protocol, bits, &timeout::DEFAULT),
    }
}

/// The later of two instants. By their distance: what was last seen before this machine started, on another
/// node, lies before the clock's zero.
#[inline(always)]
fn later(a: u64, b: u64) -> u64 {
    if a.wrapping_sub(b) as i64 > 0 { a } else { b }
}
