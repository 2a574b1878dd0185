//! TCP's and UDP's states in the flow table, and what an RST, a FIN or a new SYN does.

use lockstep_abi::flow::{ORIGINAL, PATH_FAST, REPLY};
use lockstep_abi::reason::Reason;
use lockstep_abi::state::{self, CLOSED, CLOSING, ESTABLISHED, NEW, RESET_PENDING};

use crate::frame::{ACK, FIN, RST, SYN, TCP, UDP};
use crate::rig::*;

fn phase(flow: &Flow) -> u32 {
    state::phase(state::bits(flow.state))
}

/// Phase of the flow, with both entries' paths checked against it.
fn look(rig: &Rig, port: u16) -> u32 {
    let original = rig.flow(&rig.tcp(port, 0)).unwrap();
    let other = rig.flow_at(&original.twin).unwrap();
    let path = state::path(state::bits(original.state), original.flags);
    assert_eq!((original.path, other.path), (path, path));
    assert_eq!((original.kind(), other.kind(), other.state), (ORIGINAL, REPLY, 0));
    phase(&original)
}

#[test]
fn a_connection_goes_through_its_phases_and_counts_each_change() {
    for_each(|rig| {
        let n = rig.connect(40000);
        assert_eq!(look(rig, 40000), ESTABLISHED);
        let established = state::n(rig.flow(&rig.tcp(40000, 0)).unwrap().state);
        rig.client_sends(&rig.tcp(40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(look(rig, 40000), CLOSING);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(look(rig, 40000), CLOSED);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        // A retransmission is no change.
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(state::n(rig.flow(&rig.tcp(40000, 0)).unwrap().state), established + 2);
    });
}

#[test]
fn an_rst_is_forwarded_and_any_later_packet_restores_the_flow() {
    for_each(|rig| {
        for from_client in [true, false] {
            let port = 40000 + u16::from(from_client);
            let n = rig.connect(port);
            if from_client {
                rig.client_sends(&rig.tcp(port, RST)).forwarded(Reason::ForwardedSlow);
            } else {
                rig.endpoint_sends(&rig.reply(TCP, n, port, RST | ACK)).forwarded(Reason::ForwardedSlow);
            }
            assert_eq!(look(rig, port), RESET_PENDING);
            rig.endpoint_sends(&rig.reply(TCP, n, port, ACK)).forwarded(Reason::ForwardedSlow);
            assert_eq!(look(rig, port), ESTABLISHED);
            let out = rig.client_sends(&rig.tcp(port, ACK)).forwarded(Reason::ForwardedFast);
            assert_eq!(out.destination, rig.net.endpoint(n));
        }
    });
}

#[test]
fn i9_a_syn_on_a_live_flow_goes_to_the_same_endpoint() {
    for_each(|rig| {
        let syn = rig.tcp(40000, SYN);
        let first = rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
        let again = rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
        assert_eq!(first, again);
        assert_eq!(look(rig, 40000), NEW);
        let n = rig.connect(40001);
        let birth = rig.flow(&rig.tcp(40001, 0)).unwrap().birth_ns;
        let out = rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.destination, rig.net.endpoint(n));
        assert_eq!(look(rig, 40001), ESTABLISHED);
        assert_eq!(rig.flow(&rig.tcp(40001, 0)).unwrap().birth_ns, birth);
        assert_eq!(rig.flow_entries(), 4);
    });
}

#[test]
fn a_syn_on_a_closed_flow_starts_another() {
    for_each(|rig| {
        let n = rig.connect(40000);
        rig.client_sends(&rig.tcp(40000, FIN | ACK));
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, FIN | ACK));
        assert_eq!(look(rig, 40000), CLOSED);
        let old = rig.flow(&rig.tcp(40000, 0)).unwrap();
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_ne!(out.destination, rig.net.endpoint(n), "round robin went on");
        assert_eq!(look(rig, 40000), NEW);
        let new = rig.flow(&rig.tcp(40000, 0)).unwrap();
        assert!(new.birth_ns > old.birth_ns && state::n(new.state) > state::n(old.state));
        assert_ne!(new.generation, old.generation);
        assert_eq!(new.generation, new.generation_end);
        // The old endpoint's entry is left dead, and is used again when its turn comes.
        assert_eq!(rig.flow_entries(), 3);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).dropped(Reason::FlowDead);
        for _ in 0..3 {
            rig.client_sends(&rig.tcp(40000, RST));
            let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
            rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
            rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
            rig.endpoint_sends(&out.answer(ACK)).forwarded(Reason::ForwardedFast);
            assert_eq!(look(rig, 40000), ESTABLISHED);
        }
        assert_eq!(rig.flow_entries(), 4, "one original, and a reply entry for each endpoint");
    });
}

/// A client that uses its ports again meets what earlier connections left with every endpoint.
#[test]
fn what_a_reopened_flow_left_behind_makes_room() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let left = key(&rig.reply(TCP, n, 40000, 0));
        rig.client_sends(&rig.tcp(40000, FIN | ACK));
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.remove_flow(&key(&rig.tcp(40000, 0)));
        rig.remove_flow(&key(&out.answer(0)));
        assert_eq!(rig.flow_entries(), 1);

        rig.publish(&Service::over(&[n]));
        // Its original may be about to be written by another CPU.
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::Raced);
        rig.change_flow(&left, |flow| {
            flow.birth_ns -= lockstep_abi::timeout::DEAD_NS;
            flow.last_seen_ns -= lockstep_abi::timeout::DEAD_NS;
        });
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.destination, rig.net.endpoint(n));
        assert_eq!(rig.flow_entries(), 2);
        rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn a_syn_on_a_closed_flow_of_a_service_that_has_no_endpoint_any_more_ends_it() {
    for_each(|rig| {
        let n = rig.connect(40000);
        rig.client_sends(&rig.tcp(40000, FIN | ACK));
        rig.publish(&Service::over(&[]));
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::NoEndpoint);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::FlowDead);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).dropped(Reason::FlowDead);
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::NoEndpoint);
        rig.publish(&Service::over(&[n]));
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(look(rig, 40000), NEW);
    });
}

#[test]
fn udp_is_established_by_the_first_answer() {
    for_each(|rig| {
        let question = rig.request(UDP, 5000, 0);
        rig.client_sends(&question);
        rig.client_sends(&question).forwarded(Reason::ForwardedSlow);
        assert_eq!(phase(&rig.flow(&question).unwrap()), NEW);
        rig.endpoint_sends(&rig.reply(UDP, 1, 5000, 0)).forwarded(Reason::ForwardedSlow);
        let flow = rig.flow(&question).unwrap();
        assert_eq!((phase(&flow), flow.path), (ESTABLISHED, PATH_FAST));
    });
}

#[test]
fn flags_that_no_stack_sends_are_dropped() {
    for_each(|rig| {
        rig.connect(40001);
        for port in [40000, 40001] {
            for flags in [SYN | FIN, SYN | RST, SYN | RST | ACK] {
                rig.client_sends(&rig.tcp(port, flags)).dropped(Reason::TcpFlags);
            }
        }
        assert_eq!(look(rig, 40001), ESTABLISHED);
    });
}
