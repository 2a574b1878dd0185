//! SCTP.

use lockstep_abi::reason::Reason;
use lockstep_abi::service::{FULLNAT, MISS_RECOVER};
use lockstep_abi::state;

use crate::case::{Side, endpoint_mac};
use crate::frame::Packet;
use crate::message::{Datagram, SCTP, sealed};
use crate::rig::*;
use crate::select::counted;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// A packet with one chunk, between the ends of a TCP packet.
fn sctp(ends: &Packet, chunk: u8, bytes: usize) -> Datagram {
    let tag: u32 = if chunk == INIT { 0 } else { 0x0102_0304 };
    let mut packet = [ends.source.1.to_be_bytes(), ends.destination.1.to_be_bytes()].concat();
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk, 3]);
    packet.extend(((4 + bytes) as u16).to_be_bytes());
    packet.extend((0..bytes.next_multiple_of(4)).map(|i| (i * 3) as u8));
    Datagram {
        to: ends.to,
        from: ends.from,
        source: ends.source.0,
        destination: ends.destination.0,
        protocol: SCTP,
        ttl: ends.ttl,
        body: sealed(packet),
    }
}

fn client(rig: &Rig, chunk: u8) -> Sent {
    rig.send_datagram(Side::Clients, &sctp(&rig.tcp(40000, 0), chunk, 21))
}

fn endpoint(rig: &Rig, chunk: u8) -> Sent {
    rig.send_datagram(Side::Endpoints, &sctp(&rig.reply(SCTP, 1, 40000, 0), chunk, 21))
}

fn phase(rig: &Rig) -> u32 {
    let flow = rig.flow(&Packet { protocol: SCTP, ..rig.tcp(40000, 0) }).expect("a flow");
    state::phase(state::bits(flow.state))
}

#[test]
fn an_association_lives_from_init_to_shutdown() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        rig.name(80, SCTP, VERSION);
        let sent = client(rig, INIT);
        assert_eq!((sent.action, sent.count(Reason::ForwardedSlow)), (Action::Redirect, 1), "{sent:?}");
        let question = rig.tcp(40000, 0);
        let expected = sctp(
            &Packet {
                to: endpoint_mac(1),
                from: Side::Endpoints.own_mac(),
                destination: rig.net.endpoint(1),
                ttl: 63,
                ..question
            },
            INIT,
            21,
        );
        assert_eq!(Datagram::read(&sent.frame).verified(), expected);
        let sent = endpoint(rig, INIT_ACK);
        let answer = rig.reply(SCTP, 1, 40000, 0);
        let expected = sctp(
            &Packet {
                to: Side::Clients.mac(50),
                from: Side::Clients.own_mac(),
                source: (rig.net.vip(), 80),
                ttl: 63,
                ..answer
            },
            INIT_ACK,
            21,
        );
        assert_eq!(Datagram::read(&sent.frame).verified(), expected);
        assert_eq!(phase(rig), state::NEW);
        client(rig, COOKIE_ECHO);
        endpoint(rig, COOKIE_ACK);
        assert_eq!(phase(rig), state::ESTABLISHED);
        client(rig, DATA);
        endpoint(rig, ABORT);
        assert_eq!(phase(rig), state::RESET_PENDING);
        Datagram::read(&client(rig, DATA).frame).verified();
        assert_eq!(phase(rig), state::ESTABLISHED);
        endpoint(rig, SHUTDOWN);
        assert_eq!(phase(rig), state::CLOSING);
        assert_eq!(counted(rig), (1, 1));
        client(rig, SHUTDOWN_ACK);
        endpoint(rig, SHUTDOWN_COMPLETE);
        assert_eq!(phase(rig), state::CLOSED);
        assert_eq!(counted(rig), (0, 0), "it counts no more");
        assert_eq!(rig.flow_entries(), 2);
        // Another association from the same port.
        let sent = client(rig, INIT);
        assert_eq!(sent.count(Reason::FlowCreated), 1, "{sent:?}");
        assert_eq!(phase(rig), state::NEW);
        assert_eq!(counted(rig), (1, 1));
    });
}

#[test]
fn what_begins_nothing_and_what_no_stack_sends_is_dropped() {
    for_each(|rig| {
        rig.name(80, SCTP, VERSION);
        client(rig, DATA).dropped(Reason::Miss);
        client(rig, INIT_ACK).dropped(Reason::Miss);
        let mut tagged = sctp(&rig.tcp(40000, 0), INIT, 20);
        tagged.body[4] = 1;
        rig.send_datagram(Side::Clients, &tagged).dropped(Reason::Malformed);
        let mut short = sctp(&rig.tcp(40000, 0), INIT, 20);
        short.body.truncate(12);
        rig.send_datagram(Side::Clients, &short).dropped(Reason::Malformed);
        let other = Packet { destination: (rig.net.vip(), 81), ..rig.tcp(40000, 0) };
        rig.send_datagram(Side::Clients, &sctp(&other, INIT, 20)).dropped(Reason::NoService);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn a_checksum_over_ports_that_stay_is_not_touched() {
    for_each(|rig| {
        rig.publish(&Service { keep_port: true, ..Service::over(&[1]) });
        rig.name(80, SCTP, VERSION);
        let mut init = sctp(&rig.tcp(40000, 0), INIT, 20);
        // One that is wrong stays so: the receiver is to see it.
        init.body[8..12].fill(0x5a);
        let sent = rig.send_datagram(Side::Clients, &init);
        let out = Datagram::read(&sent.frame);
        assert_eq!((out.destination, out.body), (rig.net.endpoint(1).0, init.body));
    });
}

#[test]
fn a_translated_source_keeps_the_checksum_right() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.mode = FULLNAT));
        rig.name(80, SCTP, VERSION);
        for bytes in [16, 17, 100, 1400] {
            let port = 30000 + bytes as u16;
            let init = sctp(&rig.tcp(port, 0), INIT, bytes);
            let out = Datagram::read(&rig.send_datagram(Side::Clients, &init).frame).verified();
            assert_eq!((out.source, out.destination), (rig.net.floating(), rig.net.endpoint(1).0));
            assert_eq!(out.body[12..], init.body[12..]);
            let source = u16::from_be_bytes([out.body[0], out.body[1]]);
            assert!((40960..41984).contains(&source), "{source} of the block");
            let answer = Packet { destination: (rig.net.floating(), source), ..rig.reply(SCTP, 1, 0, 0) };
            let back = rig.send_datagram(Side::Endpoints, &sctp(&answer, INIT_ACK, bytes));
            let back = Datagram::read(&back.frame).verified();
            let expected =
                Packet { source: (rig.net.vip(), 80), destination: (rig.net.client(), port), ..answer };
            assert_eq!(back.body, sctp(&expected, INIT_ACK, bytes).body);
        }
    });
}

#[test]
fn an_association_with_a_translated_source_is_not_recovered() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| {
            version.mode = FULLNAT;
            version.on_miss = MISS_RECOVER;
        }));
        rig.name(80, SCTP, VERSION);
        rig.change_lease(|lease| lease.since_ns = now_ns());
        client(rig, DATA).dropped(Reason::Miss);
        assert_eq!(rig.flow_entries(), 0);
    });
}
