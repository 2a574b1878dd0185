//! Questions read and refused, answers to the letter of RFC 4861.

extern crate std;
use core::net::Ipv6Addr;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ip::Header6;
use crate::ipv6::{ALL_NODES, UNSPECIFIED};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ASKER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const LINK_LAYER: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 9];
const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];

fn ip(text: &str) -> [u32; 4] {
    address(&text.parse::<Ipv6Addr>().unwrap().octets(), 0)
}

fn target() -> [u32; 4] {
    ip("2001:db8::12:3456")
}

/// A message with a right checksum, and its length.
fn ask(source: &[u32; 4], destination: &[u32; 4], target: &[u32; 4], options: &[[u8; 8]]) -> ([u8; 40], u32) {
    let mut message = [0; 40];
    message[0] = SOLICITATION;
    put_address(&mut message, 8, *target);
    for (position, option) in options.iter().enumerate() {
        message[24 + 8 * position..][..8].copy_from_slice(option);
    }
    let length = 24 + 8 * options.len() as u32;
    seal(source, destination, &mut message, length);
    (message, length)
}

fn seal(source: &[u32; 4], destination: &[u32; 4], message: &mut [u8; 40], length: u32) {
    put_half(message, 2, 0);
    let covered = sum::pseudo6(source, destination, length, PROTOCOL);
    let checksum = sum::field(add(covered, sum::bytes(message)));
    put_half(message, 2, checksum);
}

fn read(source: &str, destination: &str, options: &[[u8; 8]]) -> Option<Solicitation> {
    let (source, destination) = (ip(source), ip(destination));
    let (message, length) = ask(&source, &destination, &target(), options);
    solicitation(&source, &destination, 255, &message, length)
}

const MULTICAST: &str = "ff02::1:ff12:3456";

#[test]
fn the_mac_of_who_asks_is_found_among_the_options() {
    let large = [7, 2, 0, 0, 0, 0, 0, 0];
    let table = [
        (&[LINK_LAYER][..], Some(ASKER)),
        (&[NONCE, LINK_LAYER], Some(ASKER)),
        (&[LINK_LAYER, NONCE], Some(ASKER)),
        (&[NONCE], None),
        (&[], None),
        // The second half of one option, not an option.
        (&[large, LINK_LAYER], None),
    ];
    for (options, source_mac) in table {
        let expected = Solicitation { source_be: ip("fe80::9"), source_mac, target_be: target() };
        assert_eq!(read("fe80::9", MULTICAST, options), Some(expected), "{options:?}");
    }
    assert!(read("fe80::9", "2001:db8::12:3456", &[]).is_some(), "a unicast probe");
}

#[test]
fn duplicate_address_detection_has_no_source() {
    let question = read("::", MULTICAST, &[]).unwrap();
    assert_eq!((question.source_be, question.source_mac), (UNSPECIFIED, None));
    assert!(read("::", MULTICAST, &[NONCE]).is_some(), "RFC 7527");
    assert_eq!(read("::", MULTICAST, &[LINK_LAYER]), None);
    assert_eq!(read("::", "2001:db8::12:3456", &[]), None);
    assert_eq!(read("::", "ff02::1", &[]), None);
}

#[test]
fn what_rfc_4861_discards_is_no_question() {
    let (source, destination) = (ip("fe80::9"), ip(MULTICAST));
    let (good, length) = ask(&source, &destination, &target(), &[LINK_LAYER]);
    let read = |message: &[u8; 40], hop_limit, length| {
        solicitation(&source, &destination, hop_limit, message, length)
    };
    assert!(read(&good, 255, length).is_some());
    assert_eq!(read(&good, 254, length), None, "it crossed a router");
    let changed = |seal_it: bool, change: fn(&mut [u8; 40])| {
        let mut message = good;
        change(&mut message);
        if seal_it {
            seal(&source, &destination, &mut message, length);
        }
        read(&message, 255, length)
    };
    assert_eq!(changed(true, |_| ()), read(&good, 255, length));
    assert_eq!(changed(false, |m| m[23] ^= 1), None, "checksum");
    assert_eq!(changed(true, |m| m[0] = ADVERTISEMENT), None);
    assert_eq!(changed(true, |m| m[1] = 1), None, "code");
    assert_eq!(changed(true, |m| m[8] = 0xff), None, "multicast target");
    assert_eq!(changed(true, |m| m[25] = 0), None, "an option without length");
    assert_eq!(changed(true, |m| m[25] = 2), None, "an option longer than the message");
    for length in [0, 23, 25, 31, 33, 48, u32::MAX] {
        let mut message = good;
        seal(&source, &destination, &mut message, length);
        assert_eq!(read(&message, 255, length), None, "{length}");
    }
}

#[test]
fn an_answer_goes_to_who_asked_and_to_all_where_nobody_said_who() {
    let asked = Solicitation { source_be: ip("fe80::9"), source_mac: Some(ASKER), target_be: target() };
    let answer = advertisement(&asked, MAC, false);
    assert_eq!((answer.destination_be, answer.destination_mac), (ip("fe80::9"), Some(ASKER)));
    assert_eq!(answer.message[4], SOLICITED | OVERRIDE);
    assert_eq!(advertisement(&asked, MAC, true).message[4], ROUTER | SOLICITED | OVERRIDE);

    let probe = Solicitation { source_be: UNSPECIFIED, source_mac: None, target_be: target() };
    let answer = advertisement(&probe, MAC, false);
    assert_eq!(answer.destination_be, ALL_NODES);
    assert_eq!(answer.destination_mac, Some([0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(answer.message[4], OVERRIDE);

    let unknown = Solicitation { source_mac: None, ..asked };
    assert_eq!(advertisement(&unknown, MAC, false).destination_mac, None);
}

#[test]
fn an_announcement_is_a_whole_frame() {
    let frame = unsolicited(&target(), MAC, true);
    let expected: Vec<u8> = [
        &[0x33, 0x33, 0, 0, 0, 1][..],
        &MAC,
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
        &"2001:db8::12:3456".parse::<Ipv6Addr>().unwrap().octets(),
        &"ff02::1".parse::<Ipv6Addr>().unwrap().octets(),
        &[136, 0],
    ]
    .concat();
    assert_eq!(frame[..56], expected);
    assert_eq!(frame[58], ROUTER | OVERRIDE);
    assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 1]);
    let ip = Header6::of(frame[14..54].try_into().unwrap()).parse(72).unwrap();
    assert!(right(&ip.source_be, &ip.destination_be, frame[54..].try_into().unwrap()));
}

#[test]
fn multicast_addresses_are_those_of_the_rfcs() {
    assert_eq!(solicited_node(&ip("4037::1:800:200e:8c6c")), ip("ff02::1:ff0e:8c6c"));
    assert_eq!(multicast_mac(&ip("ff02::1:ff0e:8c6c")), [0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]);
    assert!(is_solicited_node(&ip(MULTICAST)) && !is_solicited_node(&ALL_NODES));
}

fn right(source: &[u32; 4], destination: &[u32; 4], message: &[u8; 32]) -> bool {
    fold(add(sum::pseudo6(source, destination, 32, PROTOCOL), sum::bytes(message))) == 0xffff
}

proptest! {
    #[test]
    fn every_answer_has_a_right_checksum(source_be: [u32; 4], target_be: [u32; 4], mac: [u8; 6], dad: bool, router: bool) {
        let source_be = if dad { UNSPECIFIED } else { source_be };
        let answer = advertisement(&Solicitation { source_be, source_mac: None, target_be }, mac, router);
        prop_assert!(right(&target_be, &answer.destination_be, &answer.message));
        prop_assert_eq!(address(&answer.message, 8), target_be);
        prop_assert_eq!(&answer.message[26..], &mac[..]);
    }

    #[test]
    fn a_question_is_read_as_it_was_asked(source_be: [u32; 4], mut target_be: [u32; 4], mac: [u8; 6]) {
        if ipv6::is_multicast(&target_be) {
            target_be[0] = 0;
        }
        let destination = solicited_node(&target_be);
        let mut option = LINK_LAYER;
        option[2..].copy_from_slice(&mac);
        let (message, length) = ask(&source_be, &destination, &target_be, &[option]);
        prop_assert_eq!(
            solicitation(&source_be, &destination, 255, &message, length),
            Some(Solicitation { source_be, source_mac: Some(mac), target_be })
        );
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(addresses: [[u32; 4]; 2], message in any::<([u8; 20], [u8; 20])>(), length in 0u32..50, units: [u8; 2]) {
        let mut message: [u8; 40] = [message.0, message.1].concat().try_into().unwrap();
        // Past the first checks, so that the options are reached.
        (message[0], message[1], message[25], message[33]) = (SOLICITATION, 0, units[0] % 4, units[1] % 4);
        seal(&addresses[0], &addresses[1], &mut message, length);
        if let Some(question) = solicitation(&addresses[0], &addresses[1], 255, &message, length) {
            prop_assert!(question.source_mac.is_none() || length > 24);
            prop_assert!(!ipv6::is_multicast(&question.target_be));
        }
    }
}
