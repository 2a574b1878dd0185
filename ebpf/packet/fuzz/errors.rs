//! Errors translated: what was right before is right after.

use lockstep_abi::checksum::{add, fold};
use lockstep_packet::ip::Ip;
use lockstep_packet::quoted::{self, Change, Tuple};
use lockstep_packet::{icmp, icmp6, sum};

use super::{take, total, walk};

pub(crate) fn translate4(bytes: &[u8], at: usize) -> Option<()> {
    let inner_at = at + 8;
    let inner = take::<20>(bytes, inner_at)?;
    let transport_at = inner_at + quoted::header_length_bytes(inner[0])? as usize;
    let transport = take::<8>(bytes, transport_at)?;
    let from = quoted::parse4(&inner, &transport)?;
    let to = Tuple { source_be: !from.source_be, destination_be: from.source_be, ..from };
    let to = with_ports(to);
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let change = Change::of4(&from, &to);
    let new =
        quoted::rewrite4(from.protocol, half(inner_at + 10), &transport, half(at + 2), change, to.ports());

    let mut message = bytes[at..].to_vec();
    let before = fold(total(&message));
    let inner_before = fold(total(&bytes[inner_at..transport_at]));
    write(&mut message, 2, &new.icmp_checksum.to_ne_bytes());
    write(&mut message, 8 + 10, &new.header_checksum.to_ne_bytes());
    write(&mut message, 8 + 12, &to.source_be.to_ne_bytes());
    write(&mut message, 8 + 16, &to.destination_be.to_ne_bytes());
    write(&mut message, transport_at - at, &new.transport);
    assert_eq!(fold(total(&message)) % 0xffff, before % 0xffff, "the error's checksum is as right as it was");
    assert_eq!(fold(total(&message[8..transport_at - at])) % 0xffff, inner_before % 0xffff);
    let inner = take::<20>(&message, 8)?;
    assert_eq!(quoted::parse4(&inner, &new.transport), Some(to));
    Some(())
}

pub(crate) fn translate6(bytes: &[u8], at: usize, ip: &Ip<[u32; 4]>) -> Option<()> {
    let inner_at = at + 8;
    let inner = take::<40>(bytes, inner_at)?;
    let (protocol, transport_at, later) = walk(bytes, inner[6], inner_at + 40)?;
    if later.is_some_and(|fragment| fragment.offset_bytes != 0) {
        return None;
    }
    let transport = take::<8>(bytes, transport_at)?;
    let from = quoted::parse6(&inner, protocol, &transport)?;
    let to = Tuple { source_be: from.destination_be, destination_be: [7; 4], ..from };
    let to = with_ports(to);
    let (source_be, destination_be) = quoted::outer(ip.source_be, &from.reversed(), &to.reversed());
    let outer = add(
        quoted::difference6(&ip.source_be, &source_be),
        quoted::difference6(&ip.destination_be, &destination_be),
    );
    let field = u16::from_ne_bytes([bytes[at + 2], bytes[at + 3]]);
    let new = quoted::rewrite6(protocol, &transport, field, Change::of6(&from, &to), outer, to.ports());

    let mut message = bytes[at..].to_vec();
    let length = message.len() as u32;
    let whole = |source: &[u32; 4], destination: &[u32; 4], message: &[u8]| {
        fold(add(sum::pseudo6(source, destination, length, icmp6::PROTOCOL), total(message))) % 0xffff
    };
    let before = whole(&ip.source_be, &ip.destination_be, &message);
    write(&mut message, 2, &new.icmp_checksum.to_ne_bytes());
    for (position, word) in to.source_be.iter().chain(&to.destination_be).enumerate() {
        write(&mut message, 8 + 8 + position * 4, &word.to_ne_bytes());
    }
    write(&mut message, transport_at - at, &new.transport);
    assert_eq!(
        whole(&source_be, &destination_be, &message),
        before,
        "the error's checksum is as right as it was"
    );
    let inner = take::<40>(&message, 8)?;
    assert_eq!(quoted::parse6(&inner, protocol, &new.transport), Some(to));
    Some(())
}

/// Other ports; of an echo only the identifier, where it stands.
fn with_ports<A>(mut tuple: Tuple<A>) -> Tuple<A> {
    let echo = matches!(tuple.protocol, icmp::PROTOCOL | icmp6::PROTOCOL);
    if !echo || tuple.source_port_be != 0 {
        tuple.source_port_be ^= 0x5aa5;
    }
    if !echo || tuple.destination_port_be != 0 {
        tuple.destination_port_be ^= 0xa55a;
    }
    if echo && (tuple.source_port_be == 0) == (tuple.destination_port_be == 0) {
        // The identifier was 0, or became it: nobody can tell where it stands.
        tuple.source_port_be = 0;
        tuple.destination_port_be = 0;
    }
    tuple
}

fn write(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}
