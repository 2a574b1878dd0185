//! Every (state, event) pair, and what must hold for all sequences.

extern crate std;

use lockstep_abi::state::{
    self, CLOSED, CLOSING, ESTABLISHED, FIN, NEW, RESET_PENDING, SEEN, SYN, path, phase,
};
use lockstep_abi::{ICMP, SCTP, TCP, UDP, flow};
use proptest::prelude::*;

use super::From::{Client, Endpoint};
use super::*;
use crate::l4;

mod sctp;

const BOTH_SEEN: u32 = SEEN | SEEN << 1;
const BOTH_SYN: u32 = SYN | SYN << 1;

/// A flow in each phase, as packets bring it there.
fn example(phase: u32) -> u32 {
    match phase {
        NEW => first(TCP),
        ESTABLISHED => ESTABLISHED | BOTH_SEEN | BOTH_SYN,
        CLOSING => CLOSING | BOTH_SEEN | BOTH_SYN | FIN,
        CLOSED => CLOSED | BOTH_SEEN | BOTH_SYN | FIN | FIN << 1,
        _ => RESET_PENDING | ESTABLISHED << BEFORE_RESET_SHIFT | BOTH_SEEN | BOTH_SYN | state::RST,
    }
}

#[test]
fn tcp_goes_to_the_phase_of_the_table() {
    use l4::{ACK, FIN, RST, SYN};
    let phases = [NEW, ESTABLISHED, CLOSING, CLOSED, RESET_PENDING];
    // Rows: packet. Columns: the phase after it, from each of `phases`.
    let table = [
        (Client, SYN, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Client, ACK, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Client, FIN | ACK, [CLOSING, CLOSING, CLOSING, CLOSED, CLOSING]),
        (Client, RST, [RESET_PENDING; 5]),
        (Client, RST | ACK, [RESET_PENDING; 5]),
        (Endpoint, SYN | ACK, [NEW, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Endpoint, ACK, [ESTABLISHED, ESTABLISHED, CLOSING, CLOSED, ESTABLISHED]),
        (Endpoint, FIN | ACK, [CLOSING, CLOSING, CLOSED, CLOSED, CLOSING]),
        (Endpoint, RST, [RESET_PENDING; 5]),
        (Endpoint, RST | ACK, [RESET_PENDING; 5]),
    ];
    for (from, flags, expected) in table {
        for (start, expected) in phases.into_iter().zip(expected) {
            let got = phase(after(TCP, example(start), from, flags));
            assert_eq!(got, expected, "{from:?} flags {flags:#x} in phase {start}");
        }
    }
}

#[test]
fn the_handshake_is_complete_with_the_third_packet() {
    let syn_ack = after(TCP, first(TCP), Endpoint, l4::SYN | l4::ACK);
    assert_eq!(phase(syn_ack), NEW);
    let ack = after(TCP, syn_ack, Client, l4::ACK);
    assert_eq!((phase(ack), path(ack, 0)), (ESTABLISHED, flow::PATH_FAST));
    assert_eq!(after(TCP, ack, Endpoint, l4::ACK), ack, "data changes nothing");
}

#[test]
fn a_client_cannot_finish_the_handshake_alone() {
    let mut bits = first(TCP);
    for _ in 0..3 {
        bits = after(TCP, bits, Client, l4::ACK);
    }
    assert_eq!(phase(bits), NEW);
}

#[test]
fn a_reset_is_forgotten_with_the_next_packet() {
    for start in [NEW, ESTABLISHED, CLOSING, CLOSED] {
        let before = example(start);
        for from in [Client, Endpoint] {
            let reset = after(TCP, before, from, l4::RST);
            assert_eq!(path(reset, 0), 0, "each packet of a reset-pending flow is looked at");
            let again = after(TCP, reset, Endpoint, l4::RST);
            assert_eq!(phase(again), RESET_PENDING, "an RST does not restore");
            let restored = after(TCP, again, Client, l4::ACK);
            // A new flow may be established by the packet that restores it.
            let expected = after(TCP, before | (again & BOTH_SEEN), Client, l4::ACK);
            assert_eq!(phase(restored), phase(expected));
            assert_eq!(restored & (BEFORE_RESET | state::RST | state::RST << 1), 0);
        }
    }
}

#[test]
fn a_syn_reopens_only_what_is_over_or_may_be() {
    for (start, expected) in
        [(NEW, false), (ESTABLISHED, false), (CLOSING, true), (CLOSED, true), (RESET_PENDING, true)]
    {
        assert_eq!(reopens(TCP, example(start), l4::SYN), expected);
        for flags in [l4::ACK, l4::SYN | l4::ACK, l4::RST, l4::FIN | l4::ACK] {
            assert!(!reopens(TCP, example(start), flags));
        }
    }
    assert!(!reopens(UDP, ESTABLISHED, 0));
}

#[test]
fn only_a_syn_opens_and_any_datagram() {
    for flags in 0..64u8 {
        assert_eq!(may_open(TCP, flags), flags & (l4::SYN | l4::ACK | l4::RST | l4::FIN) == l4::SYN);
        assert!(may_open(UDP, flags));
    }
}

#[test]
fn udp_is_established_when_both_have_spoken() {
    let bits = first(UDP);
    assert_eq!(after(UDP, bits, Client, 0), bits);
    let bits = after(UDP, bits, Endpoint, 0);
    assert_eq!((phase(bits), path(bits, 0)), (ESTABLISHED, flow::PATH_FAST));
    assert_eq!(after(UDP, bits, Client, 0xff), bits);
}

#[test]
fn timeouts_follow_the_phase() {
    use lockstep_abi::timeout::*;
    let all = [
        (TCP, NEW, TCP_NEW_NS),
        (TCP, ESTABLISHED, TCP_ESTABLISHED_NS),
        (TCP, CLOSING, TCP_CLOSING_NS),
        (TCP, CLOSED, TCP_CLOSED_NS),
        (TCP, RESET_PENDING, RESET_PENDING_NS),
        (UDP, NEW, UDP_NEW_NS),
        (UDP, ESTABLISHED, UDP_ESTABLISHED_NS),
        (SCTP, ESTABLISHED, TCP_ESTABLISHED_NS),
        (ICMP, ESTABLISHED, UDP_ESTABLISHED_NS),
        (TCP, recovered(), TCP_NEW_NS),
    ];
    for (protocol, phase, expected) in all {
        assert_eq!(idle_ns(protocol, phase | SEEN, &DEFAULT), expected);
    }
}

#[test]
fn a_recovered_flow_is_believed_when_the_endpoint_goes_on() {
    let bits = recovered();
    assert_eq!(path(bits, 0), 0, "each packet is looked at until then");
    assert!(refuses(bits, Endpoint, l4::RST) && !refuses(bits, Client, l4::RST));
    assert!(!refuses(bits, Endpoint, l4::ACK));
    let confirmed = after(TCP, bits, Endpoint, l4::ACK);
    assert_eq!((phase(confirmed), path(confirmed, 0)), (ESTABLISHED, flow::PATH_FAST));
    assert!(!refuses(confirmed, Endpoint, l4::RST));
}

#[test]
fn with_direct_return_the_client_alone_brings_a_flow_through_its_life() {
    let new = after_direct(TCP, first(TCP), l4::SYN);
    assert_eq!(phase(new), NEW, "a retransmitted SYN says nothing of the endpoint");
    let up = after_direct(TCP, new, l4::ACK);
    assert_eq!(
        (phase(up), path(up, flow::FORWARD_DSR_L2)),
        (ESTABLISHED, flow::PATH_FAST | flow::PATH_DIRECT)
    );
    assert_eq!(phase(after_direct(TCP, up, l4::FIN | l4::ACK)), CLOSING);
    assert_eq!(phase(after_direct(UDP, first(UDP), 0)), ESTABLISHED);
}

fn packets() -> impl Strategy<Value = std::vec::Vec<(bool, u8)>> {
    prop::collection::vec((any::<bool>(), 0u8..64), 0..40)
}

proptest! {
    #[test]
    fn any_sequence_keeps_a_known_phase_and_never_loses_a_fin(protocol in prop::sample::select(&[TCP, UDP, SCTP, ICMP][..]), packets in packets()) {
        let mut bits = first(protocol);
        for (client, flags) in packets {
            let from = if client { Client } else { Endpoint };
            let new = after(protocol, bits, from, flags);
            prop_assert!(phase(new) <= RESET_PENDING);
            prop_assert_eq!(new & state::DEAD, 0);
            // It ends as a connection once at most.
            prop_assert!(state::counts(bits) || !state::counts(new));
            let kept = state::FIN | state::FIN << 1 | state::SEEN | state::SEEN << 1;
            prop_assert_eq!(bits & kept & !new, 0);
            // The same packet again changes nothing: retransmissions make no events.
            prop_assert_eq!(after(protocol, new, from, flags), new);
            bits = new;
        }
    }

    #[test]
    fn checksum_differences_equal_a_full_computation(client: [u8; 4], vip: [u8; 4], endpoint: [u8; 4], ports: [u16; 3], rest in prop::collection::vec(any::<u8>(), 16)) {
        use lockstep_abi::checksum::{add, apply, fold};
        use lockstep_abi::flow::{FlowKey4, NewFlow};
        // One's complement sum over memory words, as the kernel's, of pseudo header, ports and the rest.
        fn sum(key: &FlowKey4, rest: &[u8]) -> u16 {
            let mut sum = add(key.source_be, key.destination_be);
            sum = add(sum, u32::from(key.source_port_be));
            sum = add(sum, u32::from(key.destination_port_be));
            for pair in rest.chunks_exact(2) {
                sum = add(sum, u32::from(u16::from_ne_bytes([pair[0], pair[1]])));
            }
            !fold(sum)
        }
        let key = FlowKey4 {
            source_be: u32::from_ne_bytes(client),
            destination_be: u32::from_ne_bytes(vip),
            source_port_be: ports[0],
            destination_port_be: ports[1],
            protocol: TCP,
            pad: [0; 3],
        };
        let flow = NewFlow {
            key,
            reply_key: FlowKey4 {
                source_be: u32::from_ne_bytes(endpoint), destination_be: key.source_be, source_port_be: ports[2],
                destination_port_be: key.source_port_be, protocol: TCP, pad: [0; 3],
            },
            address_index: 0, address_stamp: 1,
            state_bits: first(TCP), n: 0, now_ns: 0, birth_ns: 0, epoch: 0, service: 0, endpoint: 0, mark: 0,
            flags: 0, service_slot: 0, target: 0, generation: 1,
        };
        for value in [flow.original(), flow.reply()] {
            let before = sum(&value.key, &rest);
            let after = sum(&value.twin.reversed(), &rest);
            let changed = apply(apply(before, value.address_delta.into()), value.port_delta.into());
            // 0 and 0xffff are the same number in one's complement.
            prop_assert_eq!(changed % 0xffff, after % 0xffff);
        }
    }
}
