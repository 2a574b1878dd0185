//! One packet, from its IP header on, through the packet logic in the order of the programs.
//!
//! Nothing may panic, and what must hold of any packet is asserted: a translated error has a right checksum if it
//! had one, there and back is where it was, what was built is read back. Answers what the packet was, by which
//! the replay of the corpus knows that a file still reaches what it was made for.

use lockstep_abi::checksum::{add, fold};
use lockstep_abi::state::{ESTABLISHED, RESET_PENDING, phase};
use lockstep_packet::extension::{MAX_STEPS, Step, step};
use lockstep_packet::fragment::{self, Role};
use lockstep_packet::icmp::Class;
use lockstep_packet::ip::{Header4, Header6, Ip};
use lockstep_packet::transition::{From, after, first};
use lockstep_packet::{arp, crc32c, encap, icmp, icmp6, ipv6, l4, mtu, nd, sctp, sum};

mod errors;

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Malformed,
    Arp,
    Ports,
    Sctp,
    SctpRefused,
    Echo,
    OtherIcmp,
    Error,
    ErrorUntranslatable,
    Solicitation,
    FragmentFirst,
    FragmentLater,
    FragmentRefused,
    ExtensionRefused,
    OtherProtocol,
}

pub(crate) fn run(bytes: &[u8]) -> Seen {
    match bytes.first().map(|first| first >> 4) {
        Some(0) => take::<{ arp::LENGTH }>(bytes, 0).map_or(Seen::Nothing, |packet| ask(&packet)),
        Some(6) => take::<40>(bytes, 0).map_or(Seen::Nothing, |header| six(bytes, &header)),
        Some(_) => take::<20>(bytes, 0).map_or(Seen::Nothing, |header| four(bytes, &header)),
        None => Seen::Nothing,
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Sum over memory words.
fn total(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, pair| {
        add(sum, u32::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
    })
}

fn ask(packet: &[u8; arp::LENGTH]) -> Seen {
    let Some(question) = arp::question(packet) else {
        return Seen::Malformed;
    };
    let answer = arp::answer(&question, [2; 6]);
    assert_eq!(arp::question(&answer), None, "an answer is no question");
    Seen::Arp
}

fn four(bytes: &[u8], header: &[u8; 20]) -> Seen {
    let length = bytes.len() as u32;
    let Ok(ip) = Header4::of(header).parse(length) else {
        return Seen::Malformed;
    };
    let inner = encap::Inner::of_ipv4(header, length, ip.source_be);
    let outer = encap::in_ipv4(&inner, 1, 2);
    assert_eq!(
        Header4::of(&outer).parse(length + encap::IN_IPV4).map(|outer| outer.protocol),
        Ok(encap::IPIP)
    );
    tunnels(&inner);
    let (offset, more) = fragment::place4(header);
    let at = usize::from(header[0] & 0x0f) * 4;
    if ip.fragment {
        return piece(ip.protocol, offset, more, length - at as u32);
    }
    match ip.protocol {
        icmp::PROTOCOL => icmp4(bytes, at, &ip),
        protocol => transport(bytes, at, protocol),
    }
}

fn six(bytes: &[u8], header: &[u8; 40]) -> Seen {
    let length = bytes.len() as u32;
    let Ok(ip) = Header6::of(header).parse(length) else {
        return Seen::Malformed;
    };
    let inner = encap::Inner::of_ipv6(header, length, ip.source_be[3]);
    let outer = encap::in_ipv6(&inner, [1; 4], [2; 4]);
    assert_eq!(
        Header6::of(&outer).parse(length + encap::IN_IPV6).map(|outer| outer.protocol),
        Ok(encap::IPV6)
    );
    tunnels(&inner);
    let Some((protocol, at, found)) = walk(bytes, ip.protocol, 40) else {
        return Seen::ExtensionRefused;
    };
    if let Some(fragment) = found {
        return piece(protocol, fragment.offset_bytes, fragment.more, length.saturating_sub(at as u32));
    }
    match protocol {
        icmp6::PROTOCOL => message6(bytes, at, &ip),
        protocol => transport(bytes, at, protocol),
    }
}

type Fragment = lockstep_packet::extension::Fragment;

/// Transport, its offset, and the fragment header if the packet is a piece.
fn walk(bytes: &[u8], first: u8, start: usize) -> Option<(u8, usize, Option<Fragment>)> {
    let (mut number, mut at) = (first, start);
    for turn in 0..=MAX_STEPS {
        match step(number, turn == 0, &take(bytes, at)?) {
            Step::Final => return Some((number, at, None)),
            Step::Skip { next_header, length_bytes } => {
                assert!((8..=2048).contains(&length_bytes));
                number = next_header;
                at += length_bytes as usize;
            }
            Step::Fragment(fragment) => {
                number = fragment.next_header;
                at += 8;
                if fragment::role(fragment.offset_bytes, fragment.more) != Role::Whole {
                    return Some((number, at, Some(fragment)));
                }
            }
            Step::Refused => return None,
        }
    }
    None
}

fn piece(protocol: u8, offset: u32, more: bool, payload: u32) -> Seen {
    if !fragment::acceptable(protocol, offset, more, payload) {
        return Seen::FragmentRefused;
    }
    assert!(offset + payload <= 0xffff);
    match fragment::role(offset, more) {
        Role::First => Seen::FragmentFirst,
        Role::Later => Seen::FragmentLater,
        Role::Whole => panic!("a whole packet as a piece"),
    }
}

fn tunnels(inner: &encap::Inner) {
    let length = inner.length_bytes;
    let gue = encap::gue_ipv4(inner, 1, 2);
    let outer = take::<20>(&gue, 0).expect("it is longer");
    assert!(Header4::of(&outer).parse(length + encap::GUE_IPV4).is_ok());
    let gue = encap::gue_ipv6(inner, [1; 4], [2; 4]);
    let outer = take::<40>(&gue, 0).expect("it is longer");
    assert!(Header6::of(&outer).parse(length + encap::GUE_IPV6).is_ok());
    assert!(mtu::reported6(length, encap::GUE_IPV6) >= mtu::MIN_IPV6);
}

fn transport(bytes: &[u8], at: usize, protocol: u8) -> Seen {
    match protocol {
        sctp::PROTOCOL => association(bytes, at),
        lockstep_abi::TCP | lockstep_abi::UDP => {
            if take::<8>(bytes, at).is_some() {
                Seen::Ports
            } else {
                Seen::Malformed
            }
        }
        _ => Seen::OtherProtocol,
    }
}

fn association(bytes: &[u8], at: usize) -> Seen {
    let Some(packet) = take::<16>(bytes, at).and_then(|first| sctp::parse(&first)) else {
        return Seen::SctpRefused;
    };
    let length = (bytes.len() - at).min(0xffff) as u32;
    let from = take::<4>(bytes, at).expect("parsed above");
    let to = [from[3], from[0], from[1], from[2]];
    let changed = crc32c::ports_changed(packet.checksum, from, to, length);
    assert_eq!(crc32c::ports_changed(changed, to, from, length), packet.checksum);
    // What follows serves as chunk types of packets to come.
    let mut bits = first(sctp::PROTOCOL);
    for &byte in &bytes[at + 12..] {
        let from = if byte & 0x80 == 0 { From::Client } else { From::Endpoint };
        let flags = l4::chunk_flags(byte & 0x1f);
        let new = after(sctp::PROTOCOL, bits, from, flags);
        assert!(phase(new) <= RESET_PENDING);
        assert!(new == bits || phase(bits) != ESTABLISHED || l4::needs_decision(flags));
        assert_eq!(after(sctp::PROTOCOL, new, from, flags), new, "a retransmission changes nothing");
        bits = new;
    }
    Seen::Sctp
}

fn icmp4(bytes: &[u8], at: usize, ip: &Ip<u32>) -> Seen {
    let Some(head) = take::<8>(bytes, at) else {
        return Seen::Malformed;
    };
    match icmp::classify(head[0]) {
        Class::EchoRequest | Class::EchoReply => return Seen::Echo,
        Class::Other => return Seen::OtherIcmp,
        Class::Error => {}
    }
    assert!(!icmp::may_be_reported(ip.source_be, ip.destination_be, icmp::PROTOCOL, head[0], 0));
    if let Some(reported) = icmp::mtu(&head) {
        let reduced = mtu::reported4(u32::from(reported), encap::IN_IPV4);
        assert_eq!(icmp::mtu(&icmp::with_mtu(&head, reduced)), Some(reduced));
    }
    errors::translate4(bytes, at).map_or(Seen::ErrorUntranslatable, |()| Seen::Error)
}

fn message6(bytes: &[u8], at: usize, ip: &Ip<[u32; 4]>) -> Seen {
    let Some(head) = take::<8>(bytes, at) else {
        return Seen::Malformed;
    };
    match icmp6::classify(head[0]) {
        Class::EchoRequest | Class::EchoReply => return Seen::Echo,
        Class::Other => return solicitation(bytes, at, ip),
        Class::Error => {}
    }
    assert!(!icmp6::may_be_reported(&ip.source_be, &ip.destination_be, icmp6::PROTOCOL, head[0], 0));
    if let Some(reported) = icmp6::mtu(&head) {
        let reduced = mtu::reported6(reported, encap::IN_IPV6);
        assert_eq!(icmp6::mtu(&icmp6::with_mtu(&head, reduced)), Some(reduced));
    }
    errors::translate6(bytes, at, ip).map_or(Seen::ErrorUntranslatable, |()| Seen::Error)
}

fn solicitation(bytes: &[u8], at: usize, ip: &Ip<[u32; 4]>) -> Seen {
    let body = &bytes[at..];
    let mut message = [0; nd::MAX_SOLICITATION_LENGTH];
    let held = body.len().min(message.len());
    message[..held].copy_from_slice(&body[..held]);
    let asked = nd::solicitation(&ip.source_be, &ip.destination_be, ip.ttl, &message, body.len() as u32);
    let Some(question) = asked else {
        return Seen::OtherIcmp;
    };
    assert!(!ipv6::is_multicast(&question.target_be));
    let answer = nd::advertisement(&question, [2; 6], false);
    let covered = sum::pseudo6(&question.target_be, &answer.destination_be, 32, icmp6::PROTOCOL);
    assert_eq!(fold(add(covered, sum::bytes(&answer.message))), 0xffff);
    Seen::Solicitation
}
