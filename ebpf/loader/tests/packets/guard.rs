//! I10: what an endpoint sends without a flow never leaves untranslated, on the owner or on a standby.

use lockstep_abi::reason::Reason;

use crate::case::{Side, endpoint_mac};
use crate::frame::{ACK, FIN, Header, Packet, RST, SYN, TCP, UDP, echo, unreachable};
use crate::rig::*;

#[test]
fn i10_a_reply_without_a_flow_is_dropped_on_owner_and_standby() {
    for_each(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            for protocol in [TCP, UDP] {
                for flags in [SYN | ACK, ACK, RST] {
                    let sent = rig.endpoint_sends(&rig.reply(protocol, 2, 40000, flags));
                    sent.dropped(Reason::ReplyWithoutFlow);
                }
            }
        }
    });
}

#[test]
fn i10_what_an_endpoint_sends_to_the_node_itself_passes() {
    for_each(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            let destination = (rig.net.node(Side::Endpoints), 50000);
            let probe_answer = Packet { destination, ..rig.reply(TCP, 1, 1, SYN | ACK) };
            rig.endpoint_sends(&probe_answer).passed(Reason::PassLocal);
        }
    });
}

#[test]
fn i10_transit_from_endpoints_needs_a_lease() {
    for_each(|rig| {
        let mut outward = rig.reply(TCP, 1, 443, SYN);
        outward.source.1 = 33000;
        rig.endpoint_sends(&outward).passed(Reason::PassTransit);
        let ping = echo(Side::Endpoints.own_mac(), endpoint_mac(1), outward.header(), true, &[0; 4]);
        rig.send(rig.endpoint_side, &ping).passed(Reason::PassTransit);
        rig.drop_lease();
        rig.endpoint_sends(&outward).dropped(Reason::TransitWithoutLease);
        rig.send(rig.endpoint_side, &ping).dropped(Reason::TransitWithoutLease);
        let local = Packet { destination: (rig.net.node(Side::Endpoints), 22), ..outward };
        rig.endpoint_sends(&local).passed(Reason::PassLocal);
    });
}

#[test]
fn i10_transit_needs_the_lease_of_any_one_of_the_networks_groups() {
    for_each(|rig| {
        let mut outward = rig.reply(TCP, 1, 443, SYN);
        outward.source.1 = 33000;
        let network = rig.net.host(Side::Endpoints, 0);
        // The last of eight, behind others that are not held.
        rig.transit(network, rig.net.network_bits(), &[20, 21, 22, 23, 24, 25, 26, SLOT]);
        rig.endpoint_sends(&outward).passed(Reason::PassTransit);
        rig.transit(network, rig.net.network_bits(), &[20, 21]);
        rig.endpoint_sends(&outward).dropped(Reason::TransitWithoutLease);
        rig.transit(network, rig.net.network_bits(), &[]);
        rig.endpoint_sends(&outward).dropped(Reason::TransitWithoutLease);
    });
}

#[test]
fn i10_a_client_without_a_flow_gets_no_answer() {
    for_each(|rig| {
        for flags in [ACK, SYN | ACK, RST, RST | ACK, ACK | FIN] {
            rig.client_sends(&rig.tcp(40000, flags)).dropped(Reason::Miss);
        }
        let mut closed = rig.tcp(40000, SYN);
        closed.destination.1 = 81;
        rig.client_sends(&closed).dropped(Reason::NoService);
        let mut floating = rig.tcp(40000, SYN);
        floating.destination.0 = rig.net.floating();
        rig.client_sends(&floating).dropped(Reason::NoService);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn i10_icmp_errors_of_endpoints_do_not_leak() {
    for_each(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            let header = rig.reply(UDP, 1, 5000, 0).header();
            let about = rig.tcp(40000, SYN).bytes()[14..rig.net.transport() + 8].to_vec();
            let frame = unreachable(Side::Endpoints.own_mac(), endpoint_mac(1), header, &about);
            rig.send(rig.endpoint_side, &frame).dropped(Reason::IcmpError);
        }
    });
}

#[test]
fn i10_fragments_of_endpoints_do_not_leak() {
    for_each(|rig| {
        for lease in [true, false] {
            if !lease {
                rig.drop_lease();
            }
            let packet = Packet { payload: vec![7; 16], ..rig.reply(UDP, 1, 5000, 0) };
            for (fragment, reason) in [
                (0x0010, Reason::FragmentWithoutFirst),
                (0x2010, Reason::FragmentWithoutFirst),
                (0x2000, Reason::ReplyWithoutFlow),
                (0x2010, Reason::FragmentWithoutFirst),
            ] {
                let frame = packet.bytes_with(Header { fragment, ..packet.header() });
                rig.send(rig.endpoint_side, &frame).dropped(reason);
            }
        }
    });
}
