//! Every (state, chunk) pair, and what must hold for all sequences.

extern crate std;
use lockstep_abi::flow::PATH_FAST;
use lockstep_abi::state::{FIN, RST, SEEN, SYN, path};
use proptest::prelude::*;

use super::*;

const BOTH_SEEN: u32 = SEEN | SEEN << 1;
const BOTH_SYN: u32 = SYN | SYN << 1;
const SACK: u8 = 3;
const CLIENT: bool = true;
const ENDPOINT: bool = false;

/// A flow in each phase, as packets bring it there.
fn example(phase: u32) -> u32 {
    match phase {
        NEW => FIRST,
        ESTABLISHED => ESTABLISHED | BOTH_SEEN | BOTH_SYN,
        CLOSING => CLOSING | BOTH_SEEN | BOTH_SYN | FIN,
        CLOSED => CLOSED | BOTH_SEEN | BOTH_SYN | FIN | FIN << 1,
        _ => RESET_PENDING | ESTABLISHED << BEFORE_RESET_SHIFT | BOTH_SEEN | BOTH_SYN | RST,
    }
}

#[test]
fn an_association_goes_to_the_phase_of_the_table() {
    let phases = [NEW, ESTABLISHED, CLOSING, CLOSED, RESET_PENDING];
    // Rows: chunk. Columns: the phase after it, from each of `phases`.
    let table = [
        (CLIENT, INIT, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (ENDPOINT, INIT_ACK, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (CLIENT, COOKIE_ECHO, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (ENDPOINT, COOKIE_ACK, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (CLIENT, DATA, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (ENDPOINT, DATA, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (ENDPOINT, SACK, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (CLIENT, SHUTDOWN, [CLOSING, CLOSING, CLOSING, CLOSED, CLOSING]),
        (ENDPOINT, SHUTDOWN, [CLOSING, CLOSING, CLOSED, CLOSED, CLOSING]),
        (ENDPOINT, SHUTDOWN_ACK, [CLOSING, CLOSING, CLOSED, CLOSED, CLOSING]),
        (CLIENT, SHUTDOWN_COMPLETE, [CLOSING, CLOSING, CLOSING, CLOSED, CLOSING]),
        (CLIENT, ABORT, [RESET_PENDING; 5]),
        (ENDPOINT, ABORT, [RESET_PENDING; 5]),
    ];
    for (from, chunk, expected) in table {
        for (start, expected) in phases.into_iter().zip(expected) {
            let got = phase(after(example(start), from, chunk));
            assert_eq!(got, expected, "client {from}, chunk {chunk} in phase {start}");
        }
    }
}

#[test]
fn a_whole_association_goes_from_init_to_shutdown_complete() {
    let steps = [
        (ENDPOINT, INIT_ACK, NEW),
        (CLIENT, COOKIE_ECHO, NEW),
        (ENDPOINT, COOKIE_ACK, ESTABLISHED),
        (CLIENT, DATA, ESTABLISHED),
        (ENDPOINT, SACK, ESTABLISHED),
        (ENDPOINT, SHUTDOWN, CLOSING),
        (CLIENT, DATA, CLOSING),
        (CLIENT, SHUTDOWN_ACK, CLOSED),
        (ENDPOINT, SHUTDOWN_COMPLETE, CLOSED),
    ];
    let mut bits = FIRST;
    for (from, chunk, expected) in steps {
        bits = after(bits, from, chunk);
        assert_eq!(phase(bits), expected, "after chunk {chunk}");
        assert_eq!(path(bits) == PATH_FAST, expected != NEW);
    }
}

#[test]
fn a_client_cannot_finish_the_handshake_alone() {
    let bits = [COOKIE_ECHO, DATA, SACK].into_iter().fold(FIRST, |bits, chunk| after(bits, CLIENT, chunk));
    assert_eq!(phase(bits), NEW);
}

#[test]
fn an_abort_is_forgotten_with_the_next_packet() {
    for start in [NEW, ESTABLISHED, CLOSING, CLOSED] {
        let before = example(start);
        for from in [CLIENT, ENDPOINT] {
            let aborted = after(before, from, ABORT);
            assert_eq!(path(aborted), 0, "each packet of a reset-pending flow is looked at");
            let again = after(aborted, ENDPOINT, ABORT);
            assert_eq!(phase(again), RESET_PENDING, "an ABORT does not restore");
            let restored = after(again, CLIENT, DATA);
            let expected = after(before | (again & BOTH_SEEN), CLIENT, DATA);
            assert_eq!(phase(restored), phase(expected));
            assert_eq!(restored & (BEFORE_RESET | RST | RST << 1), 0);
        }
    }
}

#[test]
fn an_init_reopens_only_what_is_over_or_may_be() {
    for (start, expected) in
        [(NEW, false), (ESTABLISHED, false), (CLOSING, true), (CLOSED, true), (RESET_PENDING, true)]
    {
        assert_eq!(reopens(example(start), INIT), expected);
        for chunk in (0..=255u8).filter(|&chunk| chunk != INIT) {
            assert!(!reopens(example(start), chunk) && !may_open(chunk));
        }
    }
    assert!(may_open(INIT));
}

#[test]
fn whatever_changes_an_established_flow_needs_a_decision() {
    for start in [ESTABLISHED, CLOSING, CLOSED] {
        for chunk in 0..=255u8 {
            let bits = example(start) | FIN << 1;
            let changed = [CLIENT, ENDPOINT].into_iter().any(|from| after(bits, from, chunk) != bits);
            assert!(!changed || needs_decision(chunk), "chunk {chunk} in phase {start}");
        }
    }
    assert!(!needs_decision(DATA) && !needs_decision(SACK));
}

#[test]
fn packets_that_no_stack_sends_are_refused() {
    let good = [0x80, 0, 0, 80, 1, 2, 3, 4, 9, 8, 7, 6, DATA, 3, 0, 20];
    let sctp = parse(&good).unwrap();
    assert_eq!((sctp.source_port_be, sctp.destination_port_be), (0x8000u16.to_be(), 80u16.to_be()));
    assert_eq!(sctp.tag_be.to_ne_bytes(), [1, 2, 3, 4]);
    assert_eq!((sctp.checksum, sctp.chunk), ([9, 8, 7, 6], DATA));
    let refused = |change: fn(&mut [u8; 16])| {
        let mut bytes = good;
        change(&mut bytes);
        assert_eq!(parse(&bytes), None);
    };
    refused(|b| b[0] = 0);
    refused(|b| b[3] = 0);
    refused(|b| b[15] = 3);
    refused(|b| b[12] = INIT);
    refused(|b| b[4..8].copy_from_slice(&[0; 4]));
    let mut init = good;
    init[12] = INIT;
    init[4..8].copy_from_slice(&[0; 4]);
    assert_eq!(parse(&init).unwrap().chunk, INIT);
}

fn packets() -> impl Strategy<Value = std::vec::Vec<(bool, u8)>> {
    prop::collection::vec((any::<bool>(), prop_oneof![0u8..16, any::<u8>()]), 0..40)
}

proptest! {
    #[test]
    fn any_sequence_keeps_a_known_phase_and_never_loses_an_end(packets in packets()) {
        let mut bits = FIRST;
        for (client, chunk) in packets {
            let new = after(bits, client, chunk);
            prop_assert!(phase(new) <= RESET_PENDING);
            prop_assert_eq!(new & state::DEAD, 0);
            let kept = FIN | FIN << 1 | BOTH_SEEN;
            prop_assert_eq!(bits & kept & !new, 0);
            // The same packet again changes nothing: retransmissions make no events.
            prop_assert_eq!(after(new, client, chunk), new);
            bits = new;
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes: [u8; 16]) {
        if let Some(sctp) = parse(&bytes) {
            prop_assert_eq!(sctp.tag_be == 0, may_open(sctp.chunk));
        }
    }
}
