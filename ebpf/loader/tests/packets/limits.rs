//! I13 and I14: what happens at limits, and with packets that are not handled.

use lockstep_abi::reason::Reason;

use crate::case::ALL;
use crate::frame::{ACK, FIN, Packet, SYN, TCP, ip};
use crate::pool::Size;
use crate::rig::*;

#[test]
fn i13_a_full_table_refuses_new_flows_and_serves_the_live_ones() {
    // Room for two flows, and for one half of a third.
    for flows in [4, 5] {
        for_cases_of(Size { flows, ..Size::SMALL }, &ALL, |rig| {
            let n = rig.connect(40000);
            rig.connect(40001);
            for _ in 0..3 {
                rig.client_sends(&rig.tcp(40002, SYN)).dropped(Reason::FlowTableFull);
                assert_eq!(rig.flow_entries(), 4, "no half of a flow is left");
            }
            let out = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
            assert_eq!(out.destination, rig.net.endpoint(n));
        });
    }
}

#[test]
fn a_translated_tuple_is_never_shared() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        rig.connect(40000);
        // The same client port through another port of the VIP to the same endpoint.
        rig.name(81, TCP, VERSION);
        let mut other = rig.tcp(40000, SYN);
        other.destination.1 = 81;
        rig.client_sends(&other).dropped(Reason::ReplyTupleTaken);
        assert_eq!(rig.flow_entries(), 2);
        rig.endpoint_sends(&rig.reply(TCP, 1, 40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn truncated_packets_are_dropped() {
    for_each(|rig| {
        let packet = rig.tcp(40000, SYN);
        let whole = packet.bytes();
        for behind in [0, 7, 8, 19] {
            let length = rig.net.transport() + behind;
            rig.send(rig.client_side, &whole[..length]).dropped(Reason::Malformed);
        }
        for length in [14, 19] {
            let short = &packet.segment()[..length];
            let frame = ip(packet.to, packet.from, packet.header(), short);
            rig.send(rig.client_side, &frame).dropped(Reason::Malformed);
        }
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn contradictory_headers_are_dropped() {
    for_each(|rig| {
        let mut frame = rig.tcp(40000, SYN).bytes();
        frame[14] = 0x75;
        rig.send(rig.client_side, &frame).dropped(Reason::Malformed);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn a_reply_entry_without_an_original_is_removed() {
    for_each(|rig| {
        let n = rig.connect(40000);
        rig.remove_flow(&key(&rig.tcp(40000, 0)));
        let answer = rig.reply(TCP, n, 40000, FIN | ACK);
        // Its original may be about to be written by another CPU.
        rig.endpoint_sends(&answer).dropped(Reason::Raced);
        assert_eq!(rig.flow_entries(), 1);
        rig.change_flow(&key(&answer), |flow| flow.birth_ns -= lockstep_abi::timeout::DEAD_NS);
        rig.endpoint_sends(&answer).dropped(Reason::TwinMissing);
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn an_original_without_its_reply_entry_writes_it_again() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let name = key(&rig.reply(TCP, n, 40000, 0));
        let before = rig.flow_at(&name).unwrap();
        rig.remove_flow(&name);
        let sent = rig.client_sends(&rig.tcp(40000, FIN | ACK));
        sent.forwarded(Reason::ForwardedSlow);
        assert_eq!(sent.count(Reason::TwinRepaired), 1);
        let after = rig.flow_at(&name).unwrap();
        assert_eq!((after.key, after.twin, after.flags), (before.key, before.twin, before.flags));
        // Its way is to be found anew.
        let back = rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!((back.source, back.destination), ((rig.net.vip(), 80), (rig.net.client(), 40000)));
        let back = rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!((back.source, back.destination), ((rig.net.vip(), 80), (rig.net.client(), 40000)));
    });
}

#[test]
fn an_entry_whose_memory_was_reused_is_not_believed() {
    for_each(|rig| {
        rig.connect(40000);
        let name = key(&rig.tcp(40000, 0));
        let flow = rig.flow_at(&name).unwrap();
        let torn = Flow { generation: flow.generation.wrapping_add(1), ..flow };
        let torn_end = Flow { generation_end: flow.generation_end.wrapping_add(1), ..flow };
        let foreign = Flow { key: key(&rig.tcp(40001, 0)), ..flow };
        for bad in [torn, torn_end, foreign] {
            rig.put_flow(&name, &bad);
            for flags in [ACK, FIN | ACK, SYN] {
                rig.client_sends(&rig.tcp(40000, flags)).dropped(Reason::FlowRecycled);
            }
        }
        rig.put_flow(&name, &flow);
        rig.client_sends(&Packet { flags: ACK, ..rig.tcp(40000, ACK) }).forwarded(Reason::ForwardedFast);
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
