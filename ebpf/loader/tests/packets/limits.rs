//! I13 and I14: what happens at limits, and with packets that are not handled.

use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_abi::map;
use lockstep_abi::reason::Reason;

use crate::frame::{ACK, FIN, Packet, SYN, ipv4};
use crate::rig::*;

#[test]
fn i13_a_full_table_refuses_new_flows_and_serves_the_live_ones() {
    // Room for two flows, and for one half of a third.
    for entries in [4, 5] {
        with_rig_of(entries, 4096, |rig| {
            let n = rig.connect(40000);
            rig.connect(40001);
            for _ in 0..3 {
                rig.client_sends(&tcp(40002, SYN)).dropped(Reason::FlowTableFull);
                assert_eq!(rig.flow_entries(), 4, "no half of a flow is left");
            }
            let out = rig.client_sends(&tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
            assert_eq!(out.destination, endpoint(n));
        });
    }
}

#[test]
fn a_translated_tuple_is_never_shared() {
    with_rig(|rig| {
        rig.service(&[1], lockstep_abi::service::ROUND_ROBIN, lockstep_abi::service::SYNC_IMMEDIATE);
        rig.connect(40000);
        // The same client port through another port of the VIP to the same endpoint.
        let key = lockstep_abi::service::ServiceKey {
            vip_be: be(VIP),
            port_be: 81u16.to_be(),
            protocol: 6,
            pad: 0,
        };
        let value = lockstep_abi::service::ServiceRef { version_slot: VERSION, pad: 0, service: SERVICE };
        rig.hash(map::SERVICES).insert(key, value, 0).unwrap();
        let mut other = tcp(40000, SYN);
        other.destination.1 = 81;
        rig.client_sends(&other).dropped(Reason::ReplyTupleTaken);
        assert_eq!(rig.flow_entries(), 2);
        rig.endpoint_sends(&reply(6, 1, 40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn fragments_and_options_to_a_vip_are_dropped() {
    with_rig(|rig| {
        let packet = request(17, 5000, 0);
        for fragment in [0x2000, 0x0001] {
            let mut header = packet.header();
            header.fragment = fragment;
            let frame = ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, &packet.segment());
            rig.send(rig.client_side, &frame).dropped(Reason::Fragment);
        }
        let mut header = packet.header();
        header.options = 4;
        let frame = ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, &packet.segment());
        rig.send(rig.client_side, &frame).dropped(Reason::IpOptions);
        let mut header = packet.header();
        (header.options, header.destination) = (4, NODE);
        let frame = ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, &packet.segment());
        rig.send(rig.client_side, &frame).passed(Reason::PassLocal);
    });
}

#[test]
fn truncated_packets_are_dropped() {
    with_rig(|rig| {
        let whole = tcp(40000, SYN).bytes();
        for length in [34, 41, 42, 53] {
            rig.send(rig.client_side, &whole[..length]).dropped(Reason::Malformed);
        }
        let packet = Packet { payload: vec![], ..tcp(40000, SYN) };
        let mut short = packet.segment();
        short.truncate(14);
        let frame = ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, packet.header(), &short);
        rig.send(rig.client_side, &frame).dropped(Reason::Malformed);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn a_reply_entry_without_an_original_is_removed() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        rig.hash::<FlowKey4, FlowValue4>(map::FLOWS).remove(&key(&tcp(40000, 0))).unwrap();
        let answer = reply(6, n, 40000, FIN | ACK);
        // Its original may be about to be written by another CPU.
        rig.endpoint_sends(&answer).dropped(Reason::Raced);
        assert_eq!(rig.flow_entries(), 1);
        let mut flows = rig.hash::<FlowKey4, FlowValue4>(map::FLOWS);
        let mut value = flows.get(&key(&answer), 0).unwrap();
        value.birth_ns -= lockstep_abi::timeout::DEAD_NS;
        flows.insert(key(&answer), value, 0).unwrap();
        rig.endpoint_sends(&answer).dropped(Reason::TwinMissing);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn an_original_without_its_reply_entry_writes_it_again() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        let name = key(&reply(6, n, 40000, 0));
        let before: FlowValue4 = rig.hash(map::FLOWS).get(&name, 0).unwrap();
        rig.hash::<FlowKey4, FlowValue4>(map::FLOWS).remove(&name).unwrap();
        let sent = rig.client_sends(&tcp(40000, FIN | ACK));
        sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.reasons.get("twin_repaired"), Some(&1));
        let after: FlowValue4 = rig.hash(map::FLOWS).get(&name, 0).unwrap();
        assert_eq!((after.key, after.twin, after.kind), (before.key, before.twin, before.kind));
        let out = rig.endpoint_sends(&reply(6, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!((out.source, out.destination), ((VIP, 80), (CLIENT, 40000)));
    });
}

#[test]
fn an_entry_whose_memory_was_reused_is_not_believed() {
    with_rig(|rig| {
        rig.connect(40000);
        let name = key(&tcp(40000, 0));
        let value: FlowValue4 = rig.hash(map::FLOWS).get(&name, 0).unwrap();
        let torn = FlowValue4 { generation: value.generation.wrapping_add(1), ..value };
        let foreign = FlowValue4 { key: key(&tcp(40001, 0)), ..value };
        for bad in [torn, foreign] {
            rig.hash(map::FLOWS).insert(name, bad, 0).unwrap();
            rig.client_sends(&tcp(40000, ACK)).dropped(Reason::FlowRecycled);
        }
    });
}

#[test]
fn every_reason_has_a_name_of_its_own_and_a_counter() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for (position, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, position);
    }
}
