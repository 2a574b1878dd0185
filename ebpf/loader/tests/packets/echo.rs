//! Echo: to addresses that answer themselves, and as a protocol of services.

use std::net::IpAddr;

use lockstep_abi::reason::Reason;
use lockstep_abi::service::FULLNAT;
use lockstep_abi::snat::SNAT;

use crate::case::{Side, endpoint_mac};
use crate::message::{Datagram, Error, echo_types, icmp_of};
use crate::rig::*;

fn echo(rig: &Rig, side: Side, ends: (IpAddr, IpAddr), reply: bool, id: u16) -> Datagram {
    let (request_type, reply_type) = echo_types(rig.net);
    let rest = [&id.to_be_bytes()[..], &[0, 7], b"an odd number of bytes"].concat();
    rig.message(side, ends, (if reply { reply_type } else { request_type }, 0), &rest)
}

fn serve(rig: &Rig, change: impl FnOnce(&mut lockstep_abi::service::ServiceVersion)) {
    // Of a service that has ports as well, on which the endpoints have their own.
    rig.publish(&Service::over(&[1]).with(change));
    rig.name(0, icmp_of(rig.net), VERSION);
}

#[test]
fn a_ping_to_an_owned_address_is_answered() {
    for_each(|rig| {
        let ends = (rig.net.client(), rig.net.vip());
        let request = Datagram { ttl: 17, ..echo(rig, Side::Clients, ends, false, 0x1234) };
        let sent = rig.send_datagram(Side::Clients, &request);
        assert_eq!((sent.action, sent.count(Reason::PingAnswered)), (Action::Redirect, 1), "{sent:?}");
        let expected = Datagram {
            to: request.from,
            from: request.to,
            ..echo(rig, Side::Clients, (ends.1, ends.0), true, 0x1234)
        };
        assert_eq!(Datagram::read(&sent.frame).verified(), expected);
        assert_eq!(rig.flow_entries(), 0);
        // Not where the address is not answered.
        let elsewhere = echo(rig, Side::Endpoints, (rig.net.endpoint(1).0, rig.net.vip()), false, 1);
        rig.send_datagram(Side::Endpoints, &elsewhere).dropped(Reason::NoService);
        let node = echo(rig, Side::Clients, (ends.0, rig.net.node(Side::Clients)), false, 1);
        rig.send_datagram(Side::Clients, &node).passed(Reason::PassLocal);
        rig.drop_lease();
        rig.send_datagram(Side::Clients, &request).dropped(Reason::NoLease);
    });
}

#[test]
fn a_service_for_echo_is_balanced() {
    for_each(|rig| {
        serve(rig, |_| ());
        let (client, vip, endpoint) = (rig.net.client(), rig.net.vip(), rig.net.endpoint(1).0);
        for _ in 0..2 {
            let request = echo(rig, Side::Clients, (client, vip), false, 77);
            let sent = rig.send_datagram(Side::Clients, &request);
            assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
            let expected = Datagram {
                to: endpoint_mac(1),
                from: Side::Endpoints.own_mac(),
                ttl: 63,
                ..echo(rig, Side::Clients, (client, endpoint), false, 77)
            };
            assert_eq!(Datagram::read(&sent.frame).verified(), expected);
            let reply = echo(rig, Side::Endpoints, (endpoint, client), true, 77);
            let sent = rig.send_datagram(Side::Endpoints, &reply);
            assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
            let expected = Datagram {
                to: Side::Clients.mac(50),
                from: Side::Clients.own_mac(),
                ttl: 63,
                ..echo(rig, Side::Endpoints, (vip, client), true, 77)
            };
            assert_eq!(Datagram::read(&sent.frame).verified(), expected);
        }
        assert_eq!(rig.flow_entries(), 2);
    });
}

#[test]
fn a_translated_source_brings_another_identifier() {
    for_each(|rig| {
        serve(rig, |version| version.mode = FULLNAT);
        let (client, vip) = (rig.net.client(), rig.net.vip());
        let (floating, endpoint) = (rig.net.floating(), rig.net.endpoint(1).0);
        let request = echo(rig, Side::Clients, (client, vip), false, 77);
        let sent = rig.send_datagram(Side::Clients, &request);
        let out = Datagram::read(&sent.frame).verified();
        assert_eq!((out.source, out.destination), (floating, endpoint), "{sent:?}");
        let id = u16::from_be_bytes([out.body[4], out.body[5]]);
        assert!((40960..41984).contains(&id), "{id} of the block");
        let reply = echo(rig, Side::Endpoints, (endpoint, floating), true, id);
        let sent = rig.send_datagram(Side::Endpoints, &reply);
        let back = Datagram::read(&sent.frame).verified();
        let expected = echo(rig, Side::Endpoints, (vip, client), true, 77);
        assert_eq!((back.source, back.destination, back.body), (vip, client, expected.body));
    });
}

#[test]
fn an_answer_that_nobody_asked_for_begins_nothing() {
    for_each(|rig| {
        serve(rig, |_| ());
        let (client, vip, endpoint) = (rig.net.client(), rig.net.vip(), rig.net.endpoint(1).0);
        let unasked = echo(rig, Side::Clients, (client, vip), true, 5);
        rig.send_datagram(Side::Clients, &unasked).dropped(Reason::NoService);
        let leaked = echo(rig, Side::Endpoints, (endpoint, client), true, 5);
        rig.send_datagram(Side::Endpoints, &leaked).dropped(Reason::ReplyWithoutFlow);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn other_messages_and_other_protocols_to_an_owned_address_are_dropped() {
    for_each(|rig| {
        let ends = (rig.net.client(), rig.net.vip());
        // Timestamp request; multicast listener done.
        let kind = if rig.net == crate::case::Family::V4 { 13 } else { 132 };
        let message = rig.message(Side::Clients, ends, (kind, 0), &[0; 16]);
        rig.send_datagram(Side::Clients, &message).dropped(Reason::NoService);
        let gre = Datagram { protocol: 47, ..message };
        rig.send_datagram(Side::Clients, &gre).dropped(Reason::NoService);
        let passing = Datagram { destination: rig.net.node(Side::Clients), ..gre };
        rig.send_datagram(Side::Clients, &passing).passed(Reason::PassLocal);
    });
}

#[test]
fn echo_from_behind_the_balancer_is_translated_by_its_rule() {
    for_each(|rig| {
        rig.summed = true;
        let outside = crate::rules::outside(rig);
        crate::rules::rules(rig, &[crate::rules::any(SNAT, &[crate::rules::OUTSIDE_INDEX])]);
        let (insider, client) = (rig.net.insider(), rig.net.client());
        let request = echo(rig, Side::Endpoints, (insider, client), false, 77);
        for _ in 0..2 {
            let sent = rig.send_datagram(Side::Endpoints, &request);
            let out = Datagram::read(&sent.frame).verified();
            assert_eq!((out.source, out.destination, out.to), (outside, client, Side::Clients.mac(50)));
            let id = u16::from_be_bytes([out.body[4], out.body[5]]);
            assert_eq!(u32::from(id) / 1024, BLOCK, "{sent:?}");
            let reply = echo(rig, Side::Clients, (client, outside), true, id);
            let sent = rig.send_datagram(Side::Clients, &reply);
            let back = Datagram::read(&sent.frame).verified();
            let expected = echo(rig, Side::Clients, (client, insider), true, 77);
            assert_eq!((back.source, back.destination, back.body), (client, insider, expected.body));
        }
        // A router outside says that it went no further.
        let sent = rig.send_datagram(Side::Endpoints, &request);
        let router = rig.net.neighbour();
        let quoted = sent.frame[14..].to_vec();
        let about = rig.error(Side::Clients, (router, outside), Error::TimeExceeded, (0, &quoted));
        let heard = Datagram::read(&rig.send_datagram(Side::Clients, &about).frame).verified();
        assert_eq!((heard.source, heard.destination), (router, insider));
        assert_eq!(heard.body[8..], Datagram { ttl: 63, ..request }.bytes()[14..]);
    });
}
