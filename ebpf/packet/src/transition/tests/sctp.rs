//! SCTP: its chunks, told in TCP's flags, through the same machine.

use super::*;
use crate::l4::{chunk_flags, needs_decision};
use crate::sctp::{
    ABORT, COOKIE_ACK, COOKIE_ECHO, DATA, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE,
};

const SACK: u8 = 3;

fn step(bits: u32, from: From, chunk: u8) -> u32 {
    after(SCTP, bits, from, chunk_flags(chunk))
}

fn opens(chunk: u8) -> bool {
    may_open(SCTP, chunk_flags(chunk))
}

fn decided(chunk: u8) -> bool {
    needs_decision(chunk_flags(chunk))
}

#[test]
fn an_association_goes_to_the_phase_of_the_table() {
    let phases = [NEW, ESTABLISHED, CLOSING, CLOSED, RESET_PENDING];
    // Rows: chunk. Columns: the phase after it, from each of `phases`.
    let table = [
        (Client, INIT, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Endpoint, INIT_ACK, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Client, COOKIE_ECHO, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Endpoint, COOKIE_ACK, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Client, DATA, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Endpoint, DATA, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Endpoint, SACK, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Client, SHUTDOWN, [CLOSING, CLOSING, CLOSING, CLOSED, CLOSING]),
        (Endpoint, SHUTDOWN, [CLOSING, CLOSING, CLOSED, CLOSED, CLOSING]),
        (Endpoint, SHUTDOWN_ACK, [CLOSING, CLOSING, CLOSED, CLOSED, CLOSING]),
        (Client, SHUTDOWN_COMPLETE, [CLOSING, CLOSING, CLOSING, CLOSED, CLOSING]),
        (Client, ABORT, [RESET_PENDING; 5]),
        (Endpoint, ABORT, [RESET_PENDING; 5]),
    ];
    for (from, chunk, expected) in table {
        for (start, expected) in phases.into_iter().zip(expected) {
            let got = phase(step(example(start), from, chunk));
            assert_eq!(got, expected, "{from:?} chunk {chunk} in phase {start}");
        }
    }
}

#[test]
fn a_whole_association_goes_from_init_to_shutdown_complete() {
    let steps = [
        (Endpoint, INIT_ACK, NEW),
        (Client, COOKIE_ECHO, NEW),
        (Endpoint, COOKIE_ACK, ESTABLISHED),
        (Client, DATA, ESTABLISHED),
        (Endpoint, SACK, ESTABLISHED),
        (Endpoint, SHUTDOWN, CLOSING),
        (Client, DATA, CLOSING),
        (Client, SHUTDOWN_ACK, CLOSED),
        (Endpoint, SHUTDOWN_COMPLETE, CLOSED),
    ];
    let mut bits = first(SCTP);
    for (from, chunk, expected) in steps {
        bits = step(bits, from, chunk);
        assert_eq!(phase(bits), expected, "after chunk {chunk}");
        assert_eq!(path(bits, 0) == flow::PATH_FAST, expected != NEW);
    }
}

#[test]
fn a_client_cannot_finish_the_handshake_alone() {
    let bits =
        [COOKIE_ECHO, DATA, SACK].into_iter().fold(first(SCTP), |bits, chunk| step(bits, Client, chunk));
    assert_eq!(phase(bits), NEW);
}

/// An endpoint drops it without a word, so that nothing would ever correct the flow.
#[test]
fn a_forged_cookie_establishes_nothing() {
    let bits = step(step(first(SCTP), Endpoint, INIT_ACK), Client, COOKIE_ECHO);
    assert_eq!((phase(bits), path(bits, 0)), (NEW, 0));
    assert_eq!(phase(step(bits, Client, COOKIE_ECHO)), NEW, "nor a second one");
    assert_eq!(phase(step(bits, Endpoint, COOKIE_ACK)), ESTABLISHED);
    let recovered = step(recovered(), Client, COOKIE_ECHO);
    assert_eq!(path(recovered, 0), 0, "nor is a flow that was made again believed for it");
}

#[test]
fn with_direct_return_the_echoed_cookie_shows_that_the_endpoint_answers() {
    let direct = |bits, chunk| after_direct(SCTP, bits, chunk_flags(chunk));
    let new = direct(first(SCTP), INIT);
    assert_eq!(phase(new), NEW, "a retransmitted INIT says nothing of the endpoint");
    let up = direct(new, COOKIE_ECHO);
    assert_eq!(phase(up), ESTABLISHED);
    assert_eq!(direct(up, COOKIE_ECHO), up);
    assert_eq!(phase(direct(up, SHUTDOWN)), CLOSING);
    assert_eq!(phase(direct(up, SHUTDOWN_COMPLETE)), CLOSING);
    assert_eq!(phase(direct(up, ABORT)), RESET_PENDING);
}

#[test]
fn an_abort_is_forgotten_with_the_next_packet() {
    for start in [NEW, ESTABLISHED, CLOSING, CLOSED] {
        let before = example(start);
        for from in [Client, Endpoint] {
            let aborted = step(before, from, ABORT);
            assert_eq!(path(aborted, 0), 0, "each packet of a reset-pending flow is looked at");
            let again = step(aborted, Endpoint, ABORT);
            assert_eq!(phase(again), RESET_PENDING, "an ABORT does not restore");
            let restored = step(again, Client, DATA);
            let expected = step(before | (again & BOTH_SEEN), Client, DATA);
            assert_eq!(phase(restored), phase(expected));
            assert_eq!(restored & (BEFORE_RESET | state::RST | state::RST << 1), 0);
        }
    }
}

#[test]
fn an_init_reopens_only_what_is_over_or_may_be() {
    for (start, expected) in
        [(NEW, false), (ESTABLISHED, false), (CLOSING, true), (CLOSED, true), (RESET_PENDING, true)]
    {
        assert_eq!(reopens(SCTP, example(start), chunk_flags(INIT)), expected);
        for chunk in (0..=255u8).filter(|&chunk| chunk != INIT) {
            assert!(!reopens(SCTP, example(start), chunk_flags(chunk)) && !opens(chunk));
        }
    }
    assert!(opens(INIT));
}

#[test]
fn whatever_changes_an_established_flow_needs_a_decision() {
    for start in [ESTABLISHED, CLOSING, CLOSED] {
        for chunk in 0..=255u8 {
            let bits = example(start) | FIN << 1;
            let changed = [Client, Endpoint].into_iter().any(|from| step(bits, from, chunk) != bits);
            assert!(!changed || decided(chunk), "chunk {chunk} in phase {start}");
        }
    }
    assert!(!decided(DATA) && !decided(SACK));
}
