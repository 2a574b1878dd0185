//! When an address gets more port blocks and when it gives some back: a state machine without clock or I/O.
//!
//! ```text
//!            80 % of its blocks in use, or a flow found no port ─► Allocate, to half full
//! address ─┤
//!            a block empty for five minutes, and half full without it ─► Release (never of the first)
//! ```
//!
//! Between the two lies room for an address to grow and shrink in without a proposal. What is decided is a
//! wish: a released block in which a flow was made meanwhile keeps that flow, since nobody else gets the block
//! (I8: blocks belong to a group and address, and whoever owns the group inserts with NOEXIST).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_model::command::Command;
use lockstep_model::ids::Epoch;
use lockstep_model::limits::{FIRST_PORT_BLOCKS, PORT_BLOCKS, PORTS_OF_A_BLOCK};

/// More blocks are asked for when so many of a hundred ports of an address are in use.
const ALLOCATE_PERCENT: u32 = 80;
/// So many that afterwards no more than so many of a hundred are; and none is given back that would break this.
const COMFORT_PERCENT: u32 = 50;
/// Blocks asked for at once.
const MAX_STEP: u32 = 16;
/// A block is given back when every pass over the flows has found it empty for so long.
const EMPTY_FOR: Duration = Duration::from_secs(300);
/// Passes further apart than this prove nothing of the time between.
const MAX_GAP: Duration = Duration::from_secs(120);
/// Between two proposals for an address: by then what the first brought is in the kernel.
const MIN_BETWEEN: Duration = Duration::from_secs(5);
/// The wait after a proposal that failed, doubled with each in a row up to [`MAX_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(64);
/// The alarm: so many of a hundred of all the ports an address can ever have. Over when below the second.
const ALARM_PERCENT: u32 = 80;
const ALARM_OVER_PERCENT: u32 = 70;

/// Every port that can be allocated.
const ALL_PORTS: u32 = PORT_BLOCKS.count_ones() * PORTS_OF_A_BLOCK;

/// What a pass over the flows found of an address of a group that this node owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) address: IpAddr,
    /// The tenure in which it was seen: another one begins anew.
    pub(crate) epoch: Epoch,
    /// The blocks that the cluster agreed on.
    pub(crate) held: u64,
    /// Blocks in which at least one port is in use.
    pub(crate) busy: u64,
    /// Ports in use, in all blocks.
    pub(crate) used: u32,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To be answered by [`PortWatch::answered`].
    Propose(IpAddr, Command),
    /// The alarm began.
    Alarm { address: IpAddr, used: u32, total: u32 },
    /// And ended.
    AlarmOver { address: IpAddr, used: u32, total: u32 },
}

/// Every watched address.
#[derive(Debug, Default)]
pub(crate) struct PortWatch {
    addresses: BTreeMap<IpAddr, Watched>,
}

#[derive(Debug)]
struct Watched {
    epoch: Epoch,
    /// For each block that the passes since then have found empty: the first and the last of them.
    empty: BTreeMap<u8, (Instant, Instant)>,
    proposed: bool,
    failures: u32,
    not_before: Option<Instant>,
    alarm: bool,
}

impl Watched {
    fn new(epoch: Epoch) -> Self {
        Self { epoch, empty: BTreeMap::new(), proposed: false, failures: 0, not_before: None, alarm: false }
    }
}

impl PortWatch {
    /// A pass over the flows has ended: everything it saw of the addresses of owned groups. Or, with `refused`, flows
    /// were refused for want of a port, which does not wait for a pass: it is not known of which address, so all get
    /// more. Addresses that are not named are forgotten, once no proposal is out for them.
    pub(crate) fn observe(&mut self, now: Instant, seen: &[Observation], refused: bool) -> Vec<Decision> {
        let named = |address: &IpAddr| seen.iter().any(|observation| observation.address == *address);
        self.addresses.retain(|address, watched| watched.proposed || named(address));
        let mut decisions = Vec::new();
        for observation in seen {
            let epoch = observation.epoch;
            let watched = self.addresses.entry(observation.address).or_insert_with(|| Watched::new(epoch));
            if watched.epoch != epoch {
                // A proposal of before is answered before another is made.
                *watched =
                    Watched { proposed: watched.proposed, alarm: watched.alarm, ..Watched::new(epoch) };
            }
            if !refused {
                watched.note_empty(now, observation);
            }
            decisions.extend(watched.alarm(observation));
            if !watched.proposed
                && watched.not_before.is_none_or(|at| now >= at)
                && let Some(command) = watched.wish(observation, refused)
            {
                watched.proposed = true;
                decisions.push(Decision::Propose(observation.address, command));
            }
        }
        decisions
    }

    /// A proposal for `address` came to an end.
    pub(crate) fn answered(&mut self, now: Instant, address: IpAddr, succeeded: bool) {
        let Some(watched) = self.addresses.get_mut(&address) else { return };
        watched.proposed = false;
        let wait = if succeeded {
            watched.failures = 0;
            MIN_BETWEEN
        } else {
            let wait = FIRST_RETRY.saturating_mul(1 << watched.failures.min(16)).min(MAX_RETRY);
            watched.failures = watched.failures.saturating_add(1);
            wait
        };
        watched.not_before = Some(now + wait);
    }
}

impl Watched {
    fn note_empty(&mut self, now: Instant, seen: &Observation) {
        let empty = seen.held & !seen.busy;
        self.empty
            .retain(|block, (_, last)| empty & 1 << *block != 0 && now.duration_since(*last) <= MAX_GAP);
        for block in blocks(empty) {
            self.empty.entry(block).or_insert((now, now)).1 = now;
        }
    }

    fn wish(&self, seen: &Observation, refused: bool) -> Option<Command> {
        let count = wanted(seen, refused);
        if count > 0 {
            return Some(Command::AllocatePortBlocks { address: seen.address, count: count as u8 });
        }
        let blocks = if refused { 0 } else { self.unwanted(seen) };
        (blocks != 0).then_some(Command::ReleasePortBlocks { address: seen.address, blocks })
    }

    /// Blocks to give back; never those that an address begins with.
    fn unwanted(&self, seen: &Observation) -> u64 {
        let spare = seen.held.count_ones().saturating_sub(comfortable(seen.used));
        let long_empty = |block: &u8| {
            self.empty.get(block).is_some_and(|(first, last)| last.duration_since(*first) >= EMPTY_FOR)
        };
        let later = blocks(seen.held & !FIRST_PORT_BLOCKS).rev();
        later.filter(long_empty).take(spare as usize).map(|block| 1_u64 << block).sum()
    }

    fn alarm(&mut self, seen: &Observation) -> Option<Decision> {
        let (address, used, total) = (seen.address, seen.used, ALL_PORTS);
        let above = |percent| u64::from(used) * 100 >= u64::from(total) * u64::from(percent);
        if !self.alarm && above(ALARM_PERCENT) {
            self.alarm = true;
            return Some(Decision::Alarm { address, used, total });
        }
        if self.alarm && !above(ALARM_OVER_PERCENT) {
            self.alarm = false;
            return Some(Decision::AlarmOver { address, used, total });
        }
        None
    }
}

/// How many blocks more an address should have.
fn wanted(seen: &Observation, refused: bool) -> u32 {
    let held = (seen.held & PORT_BLOCKS).count_ones();
    let full = u64::from(seen.used) * 100 >= u64::from(held * PORTS_OF_A_BLOCK) * u64::from(ALLOCATE_PERCENT);
    let more = if full { comfortable(seen.used).saturating_sub(held) } else { 0 };
    // Between two passes an address can have used up everything: nobody knows how much more it needs.
    let more = if refused { more.max(held) } else { more };
    more.min(MAX_STEP).min(PORT_BLOCKS.count_ones() - held)
}

/// Blocks of which so many ports are a comfortable share.
fn comfortable(used: u32) -> u32 {
    (u64::from(used) * 100).div_ceil(u64::from(PORTS_OF_A_BLOCK * COMFORT_PERCENT)) as u32
}

fn blocks(of: u64) -> impl DoubleEndedIterator<Item = u8> {
    (0..64_u8).filter(move |block| of & 1 << block != 0)
}

#[cfg(test)]
mod tests;
