//! I10: what an endpoint sends without a flow never leaves untranslated, on the owner or on a standby.

use lockstep_abi::reason::Reason;

use crate::frame::{ACK, Packet, RST, SYN, icmp, ipv4};
use crate::rig::*;

#[test]
fn i10_a_reply_without_a_flow_is_dropped_on_owner_and_standby() {
    with_rig(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            for protocol in [6, 17] {
                for flags in [SYN | ACK, ACK, RST] {
                    let sent = rig.endpoint_sends(&reply(protocol, 2, 40000, flags));
                    sent.dropped(Reason::ReplyWithoutFlow);
                }
            }
        }
    });
}

#[test]
fn i10_what_an_endpoint_sends_to_the_node_itself_passes() {
    with_rig(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            let probe_answer =
                Packet { destination: (NODE_ENDPOINT_SIDE, 50000), ..reply(6, 1, 1, SYN | ACK) };
            rig.endpoint_sends(&probe_answer).passed(Reason::PassLocal);
        }
    });
}

#[test]
fn i10_transit_from_endpoints_needs_a_lease() {
    with_rig(|rig| {
        let mut outward = reply(6, 1, 443, SYN);
        outward.source.1 = 33000;
        rig.endpoint_sends(&outward).passed(Reason::PassTransit);
        let mut ping = outward.header();
        ping.protocol = 1;
        let ping = ipv4(ENDPOINT_SIDE_MAC, endpoint_mac(1), ping, &icmp(8, 0, &[0; 4]));
        rig.send(rig.endpoint_side, &ping).passed(Reason::PassTransit);
        rig.drop_lease();
        rig.endpoint_sends(&outward).dropped(Reason::TransitWithoutLease);
        rig.send(rig.endpoint_side, &ping).dropped(Reason::TransitWithoutLease);
        let local = Packet { destination: (NODE_ENDPOINT_SIDE, 22), ..outward };
        rig.endpoint_sends(&local).passed(Reason::PassLocal);
    });
}

#[test]
fn i10_a_client_without_a_flow_gets_no_answer() {
    with_rig(|rig| {
        for flags in [ACK, SYN | ACK, RST, RST | ACK, ACK | crate::frame::FIN] {
            rig.client_sends(&tcp(40000, flags)).dropped(Reason::Miss);
        }
        let mut closed = tcp(40000, SYN);
        closed.destination.1 = 81;
        rig.client_sends(&closed).dropped(Reason::NoService);
        let mut floating = tcp(40000, SYN);
        floating.destination.0 = FLOATING_ADDRESS;
        rig.client_sends(&floating).dropped(Reason::NoService);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn i10_icmp_errors_and_fragments_of_endpoints_do_not_leak() {
    with_rig(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            let packet = reply(17, 1, 5000, 0);
            let mut header = packet.header();
            header.protocol = 1;
            let inner = tcp(40000, SYN).bytes()[14..42].to_vec();
            let unreachable = icmp(3, 3, &[&[0; 4][..], &inner].concat());
            let frame = ipv4(ENDPOINT_SIDE_MAC, endpoint_mac(1), header, &unreachable);
            rig.send(rig.endpoint_side, &frame).dropped(Reason::IcmpError);
            for fragment in [0x2000, 0x0010, 0x2010] {
                let mut header = packet.header();
                header.fragment = fragment;
                let frame = ipv4(ENDPOINT_SIDE_MAC, endpoint_mac(1), header, &packet.segment());
                rig.send(rig.endpoint_side, &frame).dropped(Reason::Fragment);
            }
        }
    });
}
