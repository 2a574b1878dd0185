//! Each header, and walks over chains of them.

extern crate std;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[test]
fn each_header_is_measured_in_its_own_unit() {
    let skip = |next_header, length_bytes| Step::Skip { next_header, length_bytes };
    let table = [
        (HOP_BY_HOP, [6, 0, 5, 2, 0, 0, 1, 0], skip(6, 8)),
        (DESTINATION, [17, 3, 0, 0, 0, 0, 0, 0], skip(17, 32)),
        (ROUTING, [6, 2, 4, 0, 0, 0, 0, 0], skip(6, 24)),
        (AUTHENTICATION, [6, 4, 0, 0, 0, 0, 0, 1], skip(6, 24)),
        (ROUTING, [6, 2, 4, 1, 0, 0, 0, 0], Step::Refused),
        (NO_NEXT, [0; 8], Step::Final),
        (6, [0; 8], Step::Final),
        (17, [0; 8], Step::Final),
        (58, [0; 8], Step::Final),
        (50, [0; 8], Step::Final),
    ];
    for (number, header, expected) in table {
        assert_eq!(step(number, true, &header), expected, "{number}");
    }
}

#[test]
fn hop_by_hop_options_are_first_or_refused() {
    assert_eq!(step(HOP_BY_HOP, false, &[6, 0, 0, 0, 0, 0, 0, 0]), Step::Refused);
    assert!(matches!(step(DESTINATION, false, &[6, 0, 0, 0, 0, 0, 0, 0]), Step::Skip { .. }));
}

#[test]
fn a_fragment_header_gives_offset_more_and_id() {
    let piece = |high, low| match step(FRAGMENT, true, &[17, 0, high, low, 1, 2, 3, 4]) {
        Step::Fragment(fragment) => fragment,
        other => panic!("{other:?}"),
    };
    let first = piece(0, 1);
    assert_eq!((first.next_header, first.offset_bytes, first.more), (17, 0, true));
    assert_eq!(first.id_be.to_ne_bytes(), [1, 2, 3, 4]);
    let last = piece(0x05, 0xa8);
    assert_eq!((last.offset_bytes, last.more), (1448, false));
    // The two reserved bits are ignored.
    assert_eq!(piece(0, 0b110).offset_bytes, 0);
}

/// What the programs do: the transport's number and offset.
fn walk(mut number: u8, bytes: &[u8]) -> Option<(u8, usize)> {
    let mut offset = 0;
    for turn in 0..=MAX_STEPS {
        let header: [u8; 8] = bytes.get(offset..offset + 8)?.try_into().unwrap();
        match step(number, turn == 0, &header) {
            Step::Final => return Some((number, offset)),
            Step::Skip { next_header, length_bytes } => {
                number = next_header;
                offset += length_bytes as usize;
            }
            Step::Fragment(fragment) => {
                number = fragment.next_header;
                offset += 8;
            }
            Step::Refused => return None,
        }
    }
    None
}

proptest! {
    #[test]
    fn a_chain_of_up_to_four_is_walked(kinds in prop::collection::vec((prop::sample::select(&[ROUTING, DESTINATION, AUTHENTICATION, FRAGMENT][..]), 0u8..6), 0..6), transport in prop::sample::select(&[6u8, 17, 58, 132][..])) {
        let mut bytes: Vec<u8> = Vec::new();
        for (position, &(kind, units)) in kinds.iter().enumerate() {
            let next = kinds.get(position + 1).map_or(transport, |&(kind, _)| kind);
            let (units, length) = match kind {
                FRAGMENT => (0, 8),
                AUTHENTICATION => (units + 1, (usize::from(units) + 3) * 4),
                _ => (units, (usize::from(units) + 1) * 8),
            };
            let start = bytes.len();
            bytes.resize(start + length, 0);
            bytes[start] = next;
            bytes[start + 1] = units;
        }
        let end = bytes.len();
        bytes.extend([0xff; 8]);
        let start = kinds.first().map_or(transport, |&(kind, _)| kind);
        let expected = if kinds.len() <= MAX_STEPS as usize { Some((transport, end)) } else { None };
        prop_assert_eq!(walk(start, &bytes), expected);
    }

    #[test]
    fn arbitrary_bytes_advance_and_stay_bounded(number: u8, first: bool, header: [u8; 8]) {
        match step(number, first, &header) {
            Step::Skip { length_bytes, .. } => {
                prop_assert!((8..=2048).contains(&length_bytes));
                prop_assert_eq!(length_bytes % 4, 0);
            }
            Step::Fragment(fragment) => prop_assert!(fragment.offset_bytes <= 0xfff8),
            Step::Final | Step::Refused => {}
        }
    }

    #[test]
    fn arbitrary_chains_end(number: u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some((_, offset)) = walk(number, &bytes) {
            prop_assert!(offset + 8 <= bytes.len());
        }
    }
}
