//! Services on port ranges, and on every port.

use lockstep_abi::address::{RANGES, VIP};
use lockstep_abi::reason::Reason;

use crate::frame::{ACK, Packet, SYN, TCP, UDP};
use crate::rig::*;

fn to_port(rig: &Rig, protocol: u8, port: u16) -> Packet {
    let packet = rig.request(protocol, 40000, SYN);
    Packet { destination: (packet.destination.0, port), ..packet }
}

#[test]
fn a_range_is_found_where_the_port_itself_has_no_service() {
    for_each(|rig| {
        let kept = Service { slot: 1, keep_port: true, ..Service::over(&[2]) };
        rig.write_version(&kept);
        // 1024 to 1279: the first 8 bits of the port.
        rig.name_range(1024, 8, TCP, 1);
        let first = rig.client_sends(&to_port(rig, TCP, 1024));
        first.dropped(Reason::NoService);
        rig.change_address(VIP_INDEX, |address| address.flags = VIP | RANGES);
        for port in [1024, 1100, 1279] {
            let packet = to_port(rig, TCP, port);
            let out = rig.client_sends(&packet).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.destination, (rig.net.endpoint(2).0, port), "the port stays");
            let back = rig.send_packet(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
            assert_eq!((back.source, back.destination), (packet.destination, packet.source));
        }
        for port in [1023, 1280] {
            rig.client_sends(&to_port(rig, TCP, port)).dropped(Reason::NoService);
        }
        rig.client_sends(&to_port(rig, UDP, 1100)).dropped(Reason::NoService);
        // A port of its own goes before the range that it is in.
        rig.name(1101, TCP, VERSION);
        let out = rig.client_sends(&to_port(rig, TCP, 1101)).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.destination, rig.net.endpoint(1));
    });
}

#[test]
fn the_narrower_of_two_ranges_is_taken_and_every_port_is_the_widest() {
    for_each(|rig| {
        rig.change_address(VIP_INDEX, |address| address.flags = VIP | RANGES);
        for (slot, n) in [(1, 2), (2, 3)] {
            rig.write_version(&Service { slot, keep_port: true, ..Service::over(&[n]) });
        }
        rig.name_range(0, 0, TCP, 1);
        rig.name_range(2048, 5, TCP, 2);
        for (port, n) in [(1, 2), (2047, 2), (2048, 3), (4095, 3), (4096, 2), (65535, 2)] {
            let out = rig.client_sends(&to_port(rig, TCP, port)).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.destination, (rig.net.endpoint(n).0, port));
        }
        let out = rig.client_sends(&to_port(rig, TCP, 80)).forwarded(Reason::ForwardedSlow);
        assert_eq!(out.destination, rig.net.endpoint(1), "the service on the port itself");
    });
}
