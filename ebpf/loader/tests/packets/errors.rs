//! ICMP errors about packets that were forwarded, from either side.

use std::net::IpAddr;

use lockstep_abi::reason::Reason;
use lockstep_abi::service::{DSR_L2, FULLNAT};
use lockstep_abi::state;

use crate::case::{Family, Side, endpoint_mac};
use crate::frame::{ACK, Packet, RST, SYN, TCP, UDP};
use crate::message::{Datagram, Error, icmp_of};
use crate::rig::*;

const ALL: [Error; 3] = [Error::Unreachable, Error::TooBig, Error::TimeExceeded];

/// What a host quotes of a frame: IP header and so many bytes behind it.
fn quote(rig: &Rig, frame: &[u8], behind: usize) -> Vec<u8> {
    frame[14..(rig.net.transport() + behind).min(frame.len())].to_vec()
}

/// An error that left, verified; its source, destination, and the packet it quotes.
fn told(rig: &Rig, sent: &Sent) -> (IpAddr, IpAddr, Vec<u8>) {
    assert_eq!((sent.action, sent.count(Reason::IcmpErrorForwarded)), (Action::Redirect, 1), "{sent:?}");
    let out = Datagram::read(&sent.frame).verified();
    assert_eq!((out.protocol, out.ttl), (icmp_of(rig.net), 63));
    (out.source, out.destination, out.body[8..].to_vec())
}

#[test]
fn errors_from_the_endpoints_side_reach_the_client_as_from_the_vip() {
    for_each(|rig| {
        rig.summed = true;
        for (protocol, behind) in [(TCP, 8), (UDP, 8), (UDP, 100)] {
            let question = rig.request(protocol, 40000, SYN);
            let sent = rig.client_sends(&question);
            let out = sent.forwarded(Reason::ForwardedSlow);
            // From the endpoint itself, and from a router on the way to it.
            for source in [out.destination.0, rig.net.host(Side::Endpoints, 60)] {
                for error in ALL {
                    let quoted = quote(rig, &sent.frame, behind);
                    let about =
                        rig.error(Side::Endpoints, (source, rig.net.client()), error, (1400, &quoted));
                    let heard = rig.send_datagram(Side::Endpoints, &about);
                    let (from, to, quoted) = told(rig, &heard);
                    assert_eq!((from, to), (rig.net.vip(), rig.net.client()));
                    let as_sent = Packet { ttl: 63, ..question.clone() };
                    assert_eq!(quoted, quote(rig, &as_sent.bytes(), behind), "{protocol} {error:?}");
                    let out = Datagram::read(&heard.frame);
                    assert_eq!((out.to, out.from), (Side::Clients.mac(50), Side::Clients.own_mac()));
                    assert_eq!((out.body[0], out.body[1]), error.number(rig.net));
                    assert_eq!(out.body[4..8], 1400u32.to_be_bytes(), "the MTU stays");
                }
            }
        }
    });
}

#[test]
fn errors_from_the_clients_side_reach_the_endpoint() {
    for_each(|rig| {
        rig.summed = true;
        rig.client_sends(&rig.request(UDP, 40000, 0));
        let answer = rig.reply(UDP, 1, 40000, 0);
        let sent = rig.endpoint_sends(&answer);
        sent.forwarded(Reason::ForwardedSlow);
        for source in [rig.net.client(), rig.net.neighbour()] {
            let quoted = quote(rig, &sent.frame, 100);
            let about = rig.error(Side::Clients, (source, rig.net.vip()), Error::TooBig, (1280, &quoted));
            let heard = rig.send_datagram(Side::Clients, &about);
            let (from, to, quoted) = told(rig, &heard);
            assert_eq!((from, to), (source, rig.net.endpoint(1).0), "a router keeps its name");
            assert_eq!(quoted, quote(rig, &Packet { ttl: 63, ..answer.clone() }.bytes(), 100));
            assert_eq!(Datagram::read(&heard.frame).to, endpoint_mac(1));
        }
    });
}

#[test]
fn with_a_translated_source_errors_find_their_way_back() {
    for_each(|rig| {
        rig.summed = true;
        rig.publish(&Service::over(&[1]).with(|version| version.mode = FULLNAT));
        let question = rig.request(UDP, 40000, 0);
        let sent = rig.client_sends(&question);
        let out = sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(out.source.0, rig.net.floating());
        let quoted = quote(rig, &sent.frame, 100);
        let ends = (out.destination.0, rig.net.floating());
        let heard = rig.send_datagram(
            Side::Endpoints,
            &rig.error(Side::Endpoints, ends, Error::TooBig, (1400, &quoted)),
        );
        let (from, to, quoted) = told(rig, &heard);
        assert_eq!((from, to), (rig.net.vip(), rig.net.client()));
        assert_eq!(quoted, quote(rig, &Packet { ttl: 63, ..question }.bytes(), 100));
    });
}

#[test]
fn what_quotes_behind_options_or_extension_headers_is_found() {
    for_each(|rig| {
        let question = rig.request(UDP, 40000, 0);
        let out = rig.client_sends(&question).forwarded(Reason::ForwardedSlow);
        let header = |packet: &Packet| crate::frame::Header { options: 8, ..packet.header() };
        let quoted = out.bytes_with(header(&out))[14..].to_vec();
        let ends = (out.destination.0, rig.net.client());
        let about = rig.error(Side::Endpoints, ends, Error::TooBig, (1400, &quoted));
        let heard = rig.send_datagram(Side::Endpoints, &about);
        let as_sent = Packet { ttl: 63, ..question };
        assert_eq!(told(rig, &heard).2, as_sent.bytes_with(header(&as_sent))[14..]);
    });
}

#[test]
fn an_error_about_no_flow_is_dropped_or_passes() {
    for_each(|rig| {
        let (client, vip, endpoint) = (rig.net.client(), rig.net.vip(), rig.net.endpoint(1).0);
        let unknown = rig.reply(UDP, 1, 40000, 0);
        let to_vip = Packet { source: (vip, 80), ..unknown.clone() };
        let quoted = quote(rig, &to_vip.bytes(), 8);
        let error = |side, ends, quoted: &[u8]| {
            rig.send_datagram(side, &rig.error(side, ends, Error::Unreachable, (0, quoted)))
        };
        error(Side::Clients, (client, vip), &quoted).dropped(Reason::IcmpErrorWithoutFlow);
        // Cut off before the ports, and about nothing.
        error(Side::Clients, (client, vip), &quoted[..quoted.len() - 4])
            .dropped(Reason::IcmpErrorWithoutFlow);
        error(Side::Clients, (client, vip), &[0; 48]).dropped(Reason::IcmpErrorWithoutFlow);
        let quoted = quote(rig, &rig.request(UDP, 40000, 0).bytes(), 8);
        error(Side::Endpoints, (endpoint, client), &quoted).dropped(Reason::IcmpError);
        let node = rig.net.node(Side::Clients);
        error(Side::Clients, (client, node), &quoted).passed(Reason::PassLocal);
    });
}

#[test]
fn an_error_must_go_to_the_sender_of_what_it_quotes() {
    for_each(|rig| {
        let sent = rig.client_sends(&rig.request(UDP, 40000, 0));
        let out = sent.forwarded(Reason::ForwardedSlow);
        let quoted = quote(rig, &sent.frame, 8);
        let ends = (out.destination.0, rig.net.neighbour());
        let about = rig.error(Side::Endpoints, ends, Error::Unreachable, (0, &quoted));
        rig.send_datagram(Side::Endpoints, &about).dropped(Reason::IcmpError);
    });
}

#[test]
fn i4_errors_need_the_lease_of_their_flow() {
    for_each(|rig| {
        let sent = rig.client_sends(&rig.request(UDP, 40000, 0));
        let out = sent.forwarded(Reason::ForwardedSlow);
        let quoted = quote(rig, &sent.frame, 8);
        let ends = (out.destination.0, rig.net.client());
        let about = rig.error(Side::Endpoints, ends, Error::Unreachable, (0, &quoted));
        rig.drop_lease();
        rig.send_datagram(Side::Endpoints, &about).dropped(Reason::NoLease);
        rig.hold_lease();
        told(rig, &rig.send_datagram(Side::Endpoints, &about));
    });
}

#[test]
fn i10_an_error_about_a_flow_that_was_made_again_ends_it_and_stays_here() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let packet = rig.tcp(40000, ACK);
        let sent = rig.client_sends(&packet);
        let quoted = quote(rig, &sent.frame, 8);
        let ends = (rig.net.endpoint(n).0, rig.net.client());
        let about = rig.error(Side::Endpoints, ends, Error::Unreachable, (0, &quoted));
        // A confirmed flow stays, whatever it hears.
        told(rig, &rig.send_datagram(Side::Endpoints, &about));
        rig.client_sends(&packet).forwarded(Reason::ForwardedFast);
        rig.change_flow(&key(&packet), |flow| {
            flow.state |= u64::from(state::TENTATIVE);
            flow.path = 0;
        });
        rig.send_datagram(Side::Endpoints, &about).dropped(Reason::RecoveryRefused);
        assert_ne!(state::bits(rig.flow(&packet).unwrap().state) & state::DEAD, 0);
        rig.send_datagram(Side::Endpoints, &about).dropped(Reason::FlowDead);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, RST)).dropped(Reason::FlowDead);
    });
}

#[test]
fn an_error_about_what_an_endpoint_answered_directly_goes_to_it_as_it_is() {
    for_each(|rig| {
        rig.publish(&Service::over(&[2]).with(|version| version.mode = DSR_L2));
        rig.client_sends(&rig.request(UDP, 40000, 0)).forwarded(Reason::ForwardedSlow);
        let answer = rig.request(UDP, 40000, 0).answer(0);
        let quoted = quote(rig, &answer.bytes(), 8);
        let about =
            rig.error(Side::Clients, (rig.net.neighbour(), rig.net.vip()), Error::TooBig, (1300, &quoted));
        let sent = rig.send_datagram(Side::Clients, &about);
        assert_eq!((sent.action, sent.count(Reason::IcmpErrorForwarded)), (Action::Redirect, 1), "{sent:?}");
        let expected = Datagram { to: endpoint_mac(2), from: Side::Endpoints.own_mac(), ..about };
        assert_eq!(Datagram::read(&sent.frame), expected);
    });
}

#[test]
fn an_error_at_the_end_of_its_life_is_dropped_in_silence() {
    for_each(|rig| {
        let sent = rig.client_sends(&rig.request(UDP, 40000, 0));
        let out = sent.forwarded(Reason::ForwardedSlow);
        let ends = (out.destination.0, rig.net.client());
        let about = rig.error(Side::Endpoints, ends, Error::Unreachable, (0, &quote(rig, &sent.frame, 8)));
        rig.send_datagram(Side::Endpoints, &Datagram { ttl: 1, ..about }).dropped(Reason::TtlExceeded);
    });
}

/// IPv4 only: a message of another kind that quotes something is none.
#[test]
fn only_errors_are_translated() {
    for_cases(&crate::case::BOTH_HOOKS_V4, |rig| {
        assert_eq!(rig.net, Family::V4);
        let sent = rig.client_sends(&rig.request(UDP, 40000, 0));
        let quoted = [&[0; 4][..], &quote(rig, &sent.frame, 8)].concat();
        let message =
            rig.message(Side::Endpoints, (rig.net.endpoint(1).0, rig.net.client()), (15, 0), &quoted);
        let sent = rig.send_datagram(Side::Endpoints, &message);
        assert_eq!(sent.count(Reason::IcmpErrorForwarded), 0, "{sent:?}");
    });
}
