//! Types, errors of our own, and whom they may be sent to.

extern crate std;
use lockstep_abi::checksum::fold;
use proptest::prelude::*;

use super::*;

#[test]
fn messages_are_classified_by_type() {
    for kind in 0..=255u8 {
        let expected = match kind {
            128 => Class::EchoRequest,
            129 => Class::EchoReply,
            0..=127 => Class::Error,
            _ => Class::Other,
        };
        assert_eq!(classify(kind), expected, "{kind}");
    }
    assert_eq!(echo_ports(ECHO_REQUEST, 7), Some((7, 0)));
    assert_eq!(echo_ports(ECHO_REPLY, 7), Some((0, 7)));
    assert_eq!(echo_ports(ADVERTISEMENT, 7), None);
}

#[test]
fn an_error_is_sent_only_about_a_packet_between_two_nodes_that_is_no_error() {
    let host = |last: u32| [0x2001_0db8u32.to_be(), 0, 0, last.to_be()];
    let (client, vip) = (host(1), host(10));
    let table = [
        (client, vip, 6, 0, 0, true),
        (client, vip, 17, 2, 0, true),
        (client, vip, PROTOCOL, ECHO_REQUEST, 0, true),
        (client, vip, PROTOCOL, PACKET_TOO_BIG, 0, false),
        (client, vip, PROTOCOL, 127, 0, false),
        (client, vip, PROTOCOL, REDIRECT, 0, false),
        (client, vip, 6, 0, 8, false),
        (client, ipv6::ALL_NODES, 17, 0, 0, false),
        (ipv6::UNSPECIFIED, vip, 17, 0, 0, false),
        (ipv6::ALL_NODES, vip, 17, 0, 0, false),
    ];
    for (source, destination, protocol, kind, offset, expected) in table {
        assert_eq!(
            may_be_reported(&source, &destination, protocol, kind, offset),
            expected,
            "{source:?} {destination:?} {protocol} {kind} {offset}"
        );
    }
}

fn right(source: &[u32; 4], destination: &[u32; 4], header: &[u8; 8], quoted: &[u8; 48]) -> bool {
    let pseudo = sum::pseudo6(source, destination, 56, PROTOCOL);
    fold(add(pseudo, add(sum::bytes(header), sum::bytes(quoted)))) == 0xffff
}

proptest! {
    #[test]
    fn our_errors_have_right_checksums(source: [u32; 4], destination: [u32; 4], quoted in any::<[[u8; 16]; 3]>(), mtu_bytes: u32, other: u32) {
        let quoted: [u8; 48] = quoted.concat().try_into().unwrap();
        let covered = covered(&source, &destination, 48, sum::bytes(&quoted));
        let big = packet_too_big(mtu_bytes, covered);
        prop_assert!(right(&source, &destination, &big, &quoted));
        prop_assert_eq!((big[0], big[1], mtu(&big)), (2, 0, Some(mtu_bytes)));
        let changed = with_mtu(&big, other);
        prop_assert!(right(&source, &destination, &changed, &quoted));
        prop_assert_eq!(mtu(&changed), Some(other));
        let exceeded = time_exceeded(covered);
        prop_assert!(right(&source, &destination, &exceeded, &quoted));
        prop_assert_eq!((exceeded[0], exceeded[1], mtu(&exceeded)), (3, 0, None));
    }

    #[test]
    fn an_answered_echo_keeps_the_checksum_right(source: [u32; 4], destination: [u32; 4], body in any::<[[u8; 16]; 3]>(), rest: [u8; 4]) {
        let body: [u8; 48] = body.concat().try_into().unwrap();
        let request = header(ECHO_REQUEST, 0, rest, covered(&source, &destination, 48, sum::bytes(&body)));
        let mut reply = request;
        reply[0] = ECHO_REPLY;
        put_half(&mut reply, 2, apply(half(&request, 2), ECHO_ANSWERED));
        prop_assert!(right(&destination, &source, &reply, &body));
    }
}
