//! Ranges of ports as prefixes, for the trie that finds a service by range.

use lockstep_model::intent::PortRange;

/// Prefixes of a port, as (first port, bits), that together hold the ports of `range` and no others: at most 30. Every
/// port there is, is one prefix without bits (port 0, which is in no packet, comes with it).
pub(super) fn prefixes(range: PortRange) -> Vec<(u16, u32)> {
    if range == PortRange::ANY {
        return vec![(0, 0)];
    }
    let mut prefixes = Vec::new();
    let (mut from, end) = (u32::from(range.first), u32::from(range.last) + 1);
    while from < end {
        // As large as where it begins allows, and as what is left allows.
        let size = from.trailing_zeros().min((end - from).ilog2());
        prefixes.push((from as u16, 16 - size));
        from += 1 << size;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(prefixes: &[(u16, u32)], port: u16) -> usize {
        let matches = |(first, bits): &&(u16, u32)| {
            u32::from(*first ^ port).checked_shr(16 - *bits).unwrap_or_default() == 0
        };
        prefixes.iter().filter(matches).count()
    }

    #[test]
    fn known_ranges() {
        assert_eq!(prefixes(PortRange::ANY), [(0, 0)]);
        assert_eq!(prefixes(PortRange::single(443)), [(443, 16)]);
        assert_eq!(prefixes(PortRange { first: 1024, last: 2047 }), [(1024, 6)]);
        assert_eq!(prefixes(PortRange { first: 1000, last: 1003 }), [(1000, 14)]);
        assert_eq!(prefixes(PortRange { first: 2, last: 65534 }).len(), 29);
    }

    proptest! {
        #[test]
        fn each_port_of_the_range_is_in_one_prefix_and_no_other_port_in_any(
            one in 1u16.., other in 1u16.., port: u16,
        ) {
            let range = PortRange { first: one.min(other), last: one.max(other) };
            prop_assume!(range != PortRange::ANY);
            let prefixes = prefixes(range);
            prop_assert!(prefixes.len() <= 30);
            for port in [port, range.first, range.last, range.first - 1, range.last.saturating_add(1)] {
                prop_assert_eq!(holds(&prefixes, port), usize::from(range.contains(port)), "port {}", port);
            }
        }
    }
}
