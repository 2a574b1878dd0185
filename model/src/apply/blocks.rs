//! Port blocks: which source ports of an address belong to the group that owns it (I8, DESIGN section 5).
//!
//! An address gets its first blocks when the intent first lets flows leave with it, keeps them while it stays
//! with its group, and forgets them when it leaves: by then the group's flows with it are at an end.

use std::net::IpAddr;

use super::{invalid, not_found};
use crate::limits::{FIRST_PORT_BLOCKS, PORT_BLOCKS};
use crate::state::{Applied, Refusal, State};

/// Makes the blocks follow the addresses, after a change of intent.
pub(super) fn follow(before: &State, state: &mut State) {
    let (old, new) = (before.addresses(), state.addresses());
    state.port_blocks.retain(|address, _| new.contains_key(address) && old.get(address) == new.get(address));
    for address in state.snat_sources() {
        state.port_blocks.entry(address).or_insert(FIRST_PORT_BLOCKS);
    }
}

pub(super) fn allocate(state: &mut State, address: IpAddr, count: u8) -> Result<Applied, Refusal> {
    let held = held(state, address)?;
    if !(1..=PORT_BLOCKS.count_ones()).contains(&count.into()) {
        let allowed = format!("1-{}", PORT_BLOCKS.count_ones());
        return Err(invalid(format!("address/{address}: count"), count, allowed));
    }
    let free = (0..u64::BITS).map(|bit| 1_u64 << bit).filter(|bit| PORT_BLOCKS & !held & bit != 0);
    let taken: u64 = free.take(count.into()).sum();
    if taken == 0 {
        return Ok(unchanged(state, format!("address/{address} unchanged: it has every port block")));
    }
    let blocks = held | taken;
    let line = format!("address/{address} has {} port blocks more", taken.count_ones());
    Ok(changed(state, address, blocks, line))
}

pub(super) fn release(state: &mut State, address: IpAddr, blocks: u64) -> Result<Applied, Refusal> {
    let held = held(state, address)?;
    let released = held & blocks;
    if released == 0 {
        let line = format!("address/{address} unchanged: it has none of these port blocks");
        return Ok(unchanged(state, line));
    }
    if released == held {
        let line = format!("address/{address} unchanged: it keeps at least one port block");
        return Ok(unchanged(state, line));
    }
    let line = format!("address/{address} has {} port blocks less", released.count_ones());
    Ok(changed(state, address, held & !released, line))
}

fn held(state: &State, address: IpAddr) -> Result<u64, Refusal> {
    let known = state.port_blocks.contains_key(&address) || state.snat_sources().contains(&address);
    if known { Ok(state.blocks(address)) } else { Err(not_found("address", address)) }
}

/// No change of intent: the revision stays.
fn changed(state: &mut State, address: IpAddr, blocks: u64, line: String) -> Applied {
    state.port_blocks.insert(address, blocks);
    Applied::Changed { revision: state.revision, lines: vec![line] }
}

fn unchanged(state: &State, line: String) -> Applied {
    Applied::Unchanged { revision: state.revision, lines: vec![line] }
}
