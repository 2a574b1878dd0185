//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4), with weights.
//!
//! A table is a pure function of the set of (endpoint id, weight): neither the order of the slice nor the
//! machine has a part in it, so every node makes the same one (I7).

use crate::ids::EndpointId;

/// A table of `slots` indexes into `endpoints`, or an empty one when no endpoint has weight. `slots` must be
/// prime; [`crate::limits::MAGLEV_SLOTS`] is the one in use.
///
/// Endpoints take turns in the order of their ids. In a turn an endpoint adds its weight to an account and
/// takes its next preferred slot for every full `max(weight)` on it: shares are proportional to weights.
///
/// # Panics
/// If there are more endpoints than a slot can name, or fewer than two slots.
pub fn table(endpoints: &[(EndpointId, u16)], slots: usize) -> Vec<u16> {
    assert!(endpoints.len() <= usize::from(u16::MAX), "limits keep the number of endpoints far below");
    assert!(slots > 1, "a table of one slot has no permutations");
    let mut turns: Vec<Turn> = endpoints
        .iter()
        .enumerate()
        .filter(|(_, (_, weight))| *weight > 0)
        .map(|(i, (id, weight))| Turn::new(i as u16, *id, *weight, slots))
        .collect();
    turns.sort_by_key(|t| t.id);
    let Some(most) = turns.iter().map(|t| t.weight).max() else { return Vec::new() };

    let mut table: Vec<Option<u16>> = vec![None; slots];
    let mut filled = 0;
    loop {
        for turn in &mut turns {
            turn.account += turn.weight;
            if turn.account < most {
                continue;
            }
            turn.account -= most;
            while table[turn.next].is_some() {
                turn.advance(slots);
            }
            table[turn.next] = Some(turn.index);
            filled += 1;
            if filled == slots {
                return table
                    .into_iter()
                    .map(|slot| slot.expect("as many were filled as there are"))
                    .collect();
            }
        }
    }
}

/// One endpoint's permutation of the slots, and how far it has come in it.
struct Turn {
    id: EndpointId,
    index: u16,
    weight: u32,
    account: u32,
    next: usize,
    skip: usize,
}

impl Turn {
    fn new(index: u16, id: EndpointId, weight: u16, slots: usize) -> Self {
        let offset = mix(id.get() ^ 0x6c6f_636b_7374_6570) % slots as u64;
        let skip = mix(id.get() ^ 0x6d61_676c_6576_2e31) % (slots as u64 - 1) + 1;
        Turn { id, index, weight: weight.into(), account: 0, next: offset as usize, skip: skip as usize }
    }

    fn advance(&mut self, slots: usize) {
        self.next = (self.next + self.skip) % slots;
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Part of the contract between versions:
/// nodes of two versions must make the same table.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
