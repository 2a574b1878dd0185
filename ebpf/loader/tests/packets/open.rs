//! SYNs whose flows are made without being looked for: of a service by tuple alone, on a way that is known.

use lockstep_abi::event::CREATED;
use lockstep_abi::hop::{BY_DESTINATION, word};
use lockstep_abi::map::{self, MAGLEV_SLOTS};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{MAGLEV, SOURCES, ServiceLoad};

use crate::case::endpoint_mac;
use crate::frame::{ACK, FIN, Packet, SYN, TCP};
use crate::rig::*;

/// A service over the endpoints 1 and 2, of which all new flows get one.
fn by_tuple(rig: &Rig, n: u8) -> Service {
    rig.maglev(VERSION, &vec![u16::from(n) - 1; MAGLEV_SLOTS as usize]);
    Service::over(&[1, 2]).with(|version| version.algorithm = MAGLEV)
}

/// Publishes it, with a way to each endpoint.
fn publish(rig: &Rig, n: u8) {
    rig.table(map::HOP_STAMP).put(&BY_DESTINATION, &1u32);
    for n in [1, 2] {
        let hop = word(rig.hop_index(rig.net.endpoint(n).0), HOP_STAMP);
        rig.table(map::ENDPOINT_HOPS).put(&(VERSION * map::MAX_ENDPOINTS + u32::from(n) - 1), &hop);
    }
    rig.publish(&by_tuple(rig, n));
}

fn connections(rig: &Rig) -> u64 {
    let load: ServiceLoad = rig.table(map::SERVICE_LOADS).get(&SERVICE_SLOT).unwrap();
    load.connections
}

#[test]
fn a_flow_that_was_not_looked_for_is_whole() {
    for_each(|rig| {
        publish(rig, 2);
        rig.events();
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!((out.to, out.destination), (endpoint_mac(2), rig.net.endpoint(2)));
        let events = rig.events();
        assert_eq!((events.len(), events[0].kind), (1, CREATED));
        assert_eq!((rig.flow_entries(), connections(rig)), (2, 1));
        rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

/// The attempt to make it anew gets as far as the new endpoint's entry.
#[test]
fn i9_a_syn_on_a_live_flow_leaves_nothing_with_another_endpoint() {
    for_each(|rig| {
        publish(rig, 1);
        let n = rig.connect(40000);
        publish(rig, 2);
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!((n, out.destination), (1, rig.net.endpoint(1)));
        assert_eq!((rig.flow_entries(), connections(rig)), (2, 1));
    });
}

#[test]
fn a_syn_on_a_closed_flow_goes_by_what_now_is_chosen() {
    for_each(|rig| {
        publish(rig, 1);
        for n in [1, 2] {
            publish(rig, n);
            let n = rig.connect(40000);
            rig.client_sends(&rig.tcp(40000, FIN | ACK));
            rig.endpoint_sends(&rig.reply(TCP, n, 40000, FIN | ACK));
            let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.destination, rig.net.endpoint(n));
            rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
            rig.client_sends(&rig.tcp(40000, FIN | ACK));
            rig.endpoint_sends(&out.answer(FIN | ACK));
        }
    });
}

#[test]
fn what_a_service_asks_of_a_new_flow_is_asked_of_every_syn() {
    for_each(|rig| {
        publish(rig, 1);
        let service = by_tuple(rig, 1);
        rig.connect(40000);
        let limit = service.clone().with(|version| version.connection_limit = 1);
        let rate = service.clone().with(|version| version.rate_interval_ns = u64::MAX / 4);
        let sources = service.clone().with(|version| version.flags = SOURCES);
        for (version, reason) in [(limit, Reason::ConnectionLimit), (sources, Reason::SourceNotAllowed)] {
            rig.publish(&version);
            rig.client_sends(&rig.tcp(40001, SYN)).dropped(reason);
        }
        rig.publish(&rate);
        rig.client_sends(&rig.tcp(40002, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40003, SYN)).dropped(Reason::RateLimit);
        rig.publish(&service);
        let last = rig.client_sends(&Packet { ttl: 1, ..rig.tcp(40001, SYN) });
        assert_eq!(last.count(Reason::TtlExceeded), 1);
        rig.freeze(true);
        rig.client_sends(&rig.tcp(40004, SYN)).dropped(Reason::IntentStale);
        rig.freeze(false);
        rig.drop_lease();
        rig.client_sends(&rig.tcp(40004, SYN)).dropped(Reason::NoLease);
    });
}
