//! Packets from the middle of connections that are not known here.

use lockstep_abi::flow::{KIND, PATH_FAST};
use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map::{self, MAGLEV_SLOTS};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{FULLNAT, MAGLEV, MISS_DROP, MISS_RECOVER, MISS_RESET, ServiceVersion};
use lockstep_abi::state::{self, ESTABLISHED, TENTATIVE};

use crate::frame::{ACK, FIN, RST, SYN, TCP};
use crate::rig::*;

const TAKEOVER_NS: u64 = 60_000_000_000;

/// As if this node had taken over so long ago.
fn taken_over(rig: &Rig, ago_ns: u64) {
    let since_ns = now_ns().wrapping_sub(ago_ns);
    rig.lease(LeaseValue { since_ns, flags: UNBOUNDED, ..bounded(0) });
}

fn on_miss(rig: &Rig, on_miss: u32) {
    let table: Vec<u16> = (0..MAGLEV_SLOTS).map(|slot| (slot % 3) as u16).collect();
    rig.maglev(VERSION, &table);
    rig.publish(&Service::default().with(|version| {
        version.algorithm = MAGLEV;
        version.on_miss = on_miss;
    }));
}

fn bits(rig: &Rig, port: u16) -> u32 {
    state::bits(rig.flow(&rig.tcp(port, 0)).unwrap().state)
}

#[test]
fn i7_a_connection_is_recovered_to_the_endpoint_it_had() {
    for_each(|rig| {
        on_miss(rig, MISS_RECOVER);
        // As the former owner chose.
        let had = rig.connect(40000);
        for (name, _) in rig.flows() {
            rig.remove_flow(&name);
        }
        taken_over(rig, 1_000_000_000);
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        let out = sent.forwarded(Reason::ForwardedSlow);
        assert_eq!((sent.count(Reason::FlowRecovered), sent.count(Reason::FlowCreated)), (1, 1));
        assert_eq!(out.destination, rig.net.endpoint(had));
        assert_eq!((bits(rig, 40000) & TENTATIVE, state::phase(bits(rig, 40000))), (TENTATIVE, ESTABLISHED));
        // Until the endpoint agrees, each packet is looked at.
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&rig.reply(TCP, had, 40000, ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(bits(rig, 40000) & TENTATIVE, 0);
        assert_eq!(rig.flow(&rig.tcp(40000, 0)).unwrap().path, PATH_FAST);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        // From now on it is a connection like any other.
        rig.endpoint_sends(&rig.reply(TCP, had, 40000, RST)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn i10_an_endpoint_that_refuses_a_recovered_connection_is_not_heard() {
    for_each(|rig| {
        on_miss(rig, MISS_RECOVER);
        taken_over(rig, 1_000_000_000);
        for flags in [RST, RST | ACK] {
            let out = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
            rig.send_packet(&out.answer(flags)).dropped(Reason::RecoveryRefused);
            rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::FlowDead);
            rig.send_packet(&out.answer(ACK)).dropped(Reason::FlowDead);
            for (name, _) in rig.flows() {
                rig.remove_flow(&name);
            }
        }
    });
}

#[test]
fn only_for_a_while_after_a_takeover_are_connections_recovered() {
    for_each(|rig| {
        on_miss(rig, MISS_RECOVER);
        taken_over(rig, TAKEOVER_NS - 5_000_000_000);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
        taken_over(rig, TAKEOVER_NS + 1_000_000);
        rig.client_sends(&rig.tcp(40001, ACK)).dropped(Reason::Miss);
        rig.client_sends(&rig.tcp(40001, FIN | ACK)).dropped(Reason::Miss);
        assert_eq!(rig.flow_entries(), 2);
        rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(bits(rig, 40001) & TENTATIVE, 0);
    });
}

#[test]
fn under_a_stale_intent_nothing_is_recovered() {
    for_each(|rig| {
        on_miss(rig, MISS_RECOVER);
        taken_over(rig, 1_000_000_000);
        rig.freeze(true);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::IntentStale);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn recovery_is_limited_in_rate() {
    for_each(|rig| {
        on_miss(rig, MISS_RECOVER);
        taken_over(rig, 1_000_000_000);
        let clock = rig.table::<u32, u64>("RECOVERY");
        clock.put(&0, &(now_ns() + 10_000_000_000));
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::RecoverLimited);
        assert_eq!(rig.flow_entries(), 0);
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        clock.put(&0, &now_ns());
        rig.client_sends(&rig.tcp(40001, ACK)).forwarded(Reason::ForwardedSlow);
        assert!(clock.get(&0).unwrap() > now_ns() - 1_000_000_000, "each counts");
    });
}

#[test]
fn i10_a_service_that_drops_on_a_miss_drops_at_any_time() {
    for_each(|rig| {
        on_miss(rig, MISS_DROP);
        for ago_ns in [1_000_000_000, 2 * TAKEOVER_NS] {
            taken_over(rig, ago_ns);
            rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::Miss);
        }
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn i10_a_service_that_resets_on_a_miss_drops_for_a_while_after_a_takeover() {
    for_each(|rig| {
        on_miss(rig, MISS_RESET);
        taken_over(rig, TAKEOVER_NS / 2);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::Miss);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn a_recovered_connection_waits_no_longer_than_a_handshake() {
    for_each(|rig| {
        on_miss(rig, MISS_RECOVER);
        taken_over(rig, 30_000_000_000);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
        let name = key(&rig.tcp(40000, 0));
        assert_eq!(rig.age(&[name], 0)[0].outcome, lockstep_abi::age::ALIVE);
        let twin = rig.flow_at(&name).unwrap().twin;
        for key in [name, twin] {
            let ago_ns = lockstep_abi::timeout::TCP_NEW_NS + 1_000_000_000;
            rig.change_flow(&key, |flow| flow.last_seen_ns = now_ns() - ago_ns);
        }
        assert_eq!(rig.age(&[name], 0)[0].outcome, lockstep_abi::age::MARKED);
    });
}

/// [`on_miss`] of a service that translates the source.
fn on_miss_of_fullnat(rig: &Rig) {
    on_miss(rig, MISS_RECOVER);
    rig.table::<u32, ServiceVersion>(map::VERSIONS).change(&VERSION, |version| version.mode = FULLNAT);
}

#[test]
fn i7_a_connection_with_a_translated_source_is_recovered_from_the_port_it_had() {
    for_each(|rig| {
        on_miss_of_fullnat(rig);
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        for (name, _) in rig.flows() {
            rig.remove_flow(&name);
        }
        taken_over(rig, 1_000_000_000);
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        let again = sent.forwarded(Reason::ForwardedSlow);
        assert_eq!((sent.count(Reason::FlowRecovered), sent.count(Reason::FlowCreated)), (1, 1));
        assert_eq!((again.source, again.destination), (out.source, out.destination));
        assert_eq!(bits(rig, 40000) & TENTATIVE, TENTATIVE);
        rig.endpoint_sends(&again.answer(ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(bits(rig, 40000) & TENTATIVE, 0);
    });
}

#[test]
fn i8_a_connection_whose_first_port_is_anothers_is_not_recovered() {
    for_each(|rig| {
        on_miss_of_fullnat(rig);
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        let original = key(&rig.tcp(40000, 0));
        let reply = rig.flow_at(&original).unwrap().twin;
        rig.remove_flow(&original);
        // The port is another client's now.
        let other = key(&rig.tcp(40001, 0));
        rig.change_flow(&reply, |flow| flow.twin = other);
        let held = rig.flow_at(&reply).unwrap();
        let value = Flow { key: other, twin: reply, flags: held.flags ^ KIND, ..held };
        rig.put_flow(&other, &value);
        taken_over(rig, 1_000_000_000);
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        sent.dropped(Reason::Miss);
        assert_eq!(sent.count(Reason::PortsExhausted), 0, "no reason to ask for more ports");
        assert_eq!(rig.flow_entries(), 2);
        // What begins takes the next.
        let next = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!((next.source.0, next.source.1 == out.source.1), (out.source.0, false));
    });
}
