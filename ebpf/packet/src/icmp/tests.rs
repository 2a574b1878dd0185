//! Types, errors of our own, and whom they may be sent to.

extern crate std;
use lockstep_abi::checksum::fold;
use proptest::prelude::*;

use super::*;

#[test]
fn messages_are_classified_by_type() {
    for kind in 0..=255u8 {
        let expected = match kind {
            0 => Class::EchoReply,
            8 => Class::EchoRequest,
            3 | 4 | 5 | 11 | 12 => Class::Error,
            _ => Class::Other,
        };
        assert_eq!(classify(kind), expected, "{kind}");
    }
}

#[test]
fn a_reply_has_the_reversed_ports_of_its_request() {
    assert_eq!(echo_ports(ECHO_REQUEST, 7), Some((7, 0)));
    assert_eq!(echo_ports(ECHO_REPLY, 7), Some((0, 7)));
    assert_eq!(echo_ports(UNREACHABLE, 7), None);
}

#[test]
fn an_error_is_sent_only_about_a_packet_between_two_hosts_that_is_no_error() {
    let ip = |a, b, c, d| u32::from_ne_bytes([a, b, c, d]);
    let (client, vip) = (ip(192, 0, 2, 1), ip(198, 51, 100, 10));
    let table = [
        (client, vip, 6, 0, 0, true),
        (client, vip, 17, 3, 0, true),
        (client, vip, PROTOCOL, ECHO_REQUEST, 0, true),
        (client, vip, PROTOCOL, UNREACHABLE, 0, false),
        (client, vip, PROTOCOL, TIME_EXCEEDED, 0, false),
        (client, vip, 6, 0, 8, false),
        (client, ip(224, 0, 0, 1), 17, 0, 0, false),
        (client, ip(255, 255, 255, 255), 17, 0, 0, false),
        (ip(0, 0, 0, 0), vip, 17, 0, 0, false),
        (ip(127, 0, 0, 1), vip, 17, 0, 0, false),
        (ip(224, 0, 0, 1), vip, 17, 0, 0, false),
        (ip(240, 0, 0, 1), vip, 17, 0, 0, false),
    ];
    for (source, destination, protocol, kind, offset, expected) in table {
        assert_eq!(
            may_be_reported(source, destination, protocol, kind, offset),
            expected,
            "{source:#x} {destination:#x} {protocol} {kind} {offset}"
        );
    }
}

fn right(header: &[u8; 8], quoted: &[u8; 28]) -> bool {
    fold(add(sum::bytes(header), sum::bytes(quoted))) == 0xffff
}

proptest! {
    #[test]
    fn our_errors_have_right_checksums(quoted: [u8; 28], mtu_bytes: u16) {
        let needed = frag_needed(mtu_bytes, sum::bytes(&quoted));
        prop_assert!(right(&needed, &quoted));
        prop_assert_eq!((needed[0], needed[1], needed[4], needed[5]), (3, 4, 0, 0));
        prop_assert_eq!(mtu(&needed), Some(mtu_bytes));
        let exceeded = time_exceeded(sum::bytes(&quoted));
        prop_assert!(right(&exceeded, &quoted));
        prop_assert_eq!((exceeded[0], exceeded[1], mtu(&exceeded)), (11, 0, None));
    }

    #[test]
    fn another_mtu_keeps_the_checksum_right(quoted: [u8; 28], from: u16, to: u16) {
        let changed = with_mtu(&frag_needed(from, sum::bytes(&quoted)), to);
        prop_assert_eq!(mtu(&changed), Some(to));
        prop_assert!(right(&changed, &quoted));
    }

    #[test]
    fn an_answered_echo_keeps_the_checksum_right(body: [u8; 28], rest: [u8; 4]) {
        let request = header(ECHO_REQUEST, 0, rest, sum::bytes(&body));
        let mut reply = request;
        reply[0] = ECHO_REPLY;
        put_half(&mut reply, 2, apply(half(&request, 2), ECHO_ANSWERED));
        prop_assert!(right(&reply, &body));
    }

    #[test]
    fn only_frag_needed_has_an_mtu(header: [u8; 8]) {
        prop_assert_eq!(mtu(&header).is_some(), header[0] == 3 && header[1] == 4);
        prop_assert_eq!(with_mtu(&header, 1400)[4..6].to_vec(), header[4..6].to_vec());
    }
}
