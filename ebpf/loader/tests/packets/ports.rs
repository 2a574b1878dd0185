//! I8: source ports come out of the blocks that the group has, and no two flows share one.

use std::collections::BTreeMap;

use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::FULLNAT;
use lockstep_packet::port::port;
use lockstep_packet::select::flow_hash;

use crate::case::Family;
use crate::frame::{Packet, SYN, TCP, UDP};
use crate::rig::*;

/// Ports that are tried for a flow.
const TRIES: u32 = 32;

fn prepare(rig: &Rig) {
    rig.publish(&Service::over(&[1]).with(|version| version.mode = FULLNAT));
}

fn hash(rig: &Rig, packet: &Packet) -> u32 {
    match rig.net {
        Family::V4 => flow_hash(&narrow_key(&key(packet))),
        Family::V6 => flow_hash(&key(packet)),
    }
}

fn translated(rig: &Rig, packet: &Packet) -> u16 {
    let out = rig.client_sends(packet).forwarded(Reason::ForwardedSlow);
    assert_eq!(out.source.0, rig.net.floating());
    out.source.1
}

#[test]
fn i8_ports_are_of_the_allocated_blocks_only() {
    for_each(|rig| {
        prepare(rig);
        let blocks: u64 = 1 << 1 | 1 << 40 | 1 << 63;
        rig.change_address(FLOATING_INDEX, |address| address.port_blocks = blocks | 1);
        let mut met = BTreeMap::new();
        for client_port in 20000..20150 {
            let port = translated(rig, &rig.tcp(client_port, SYN));
            assert_eq!(blocks >> (port / 1024) & 1, 1, "port {port}");
            *met.entry(port / 1024).or_insert(0) += 1;
        }
        assert_eq!(met.len(), 3, "each block is used: {met:?}");
        // Flows that exist stay when their block goes; new ones find another.
        rig.change_address(FLOATING_INDEX, |address| address.port_blocks = 1 << 50);
        let port = translated(rig, &rig.tcp(30000, SYN));
        assert_eq!(port / 1024, 50);
    });
}

#[test]
fn i8_without_a_block_no_flow_begins() {
    for_each(|rig| {
        prepare(rig);
        // Ports below 1024 are nobody's.
        for blocks in [0, 1] {
            rig.change_address(FLOATING_INDEX, |address| address.port_blocks = blocks);
            rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::PortsExhausted);
        }
        assert_eq!(rig.flow_entries(), 0);
    });
}

#[test]
fn i8_two_clients_that_hash_to_one_port_get_two() {
    for_each(|rig| {
        prepare(rig);
        let first_try = |rig: &Rig, client_port| port(1 << BLOCK, hash(rig, &rig.tcp(client_port, SYN)), 0);
        let mut seen: BTreeMap<_, u16> = BTreeMap::new();
        let (one, other) = (20000..)
            .find_map(|port| seen.insert(first_try(rig, port), port).map(|before| (before, port)))
            .unwrap();
        assert_eq!(Some(translated(rig, &rig.tcp(one, SYN))), first_try(rig, one));
        let second_try = port(1 << BLOCK, hash(rig, &rig.tcp(other, SYN)), 1);
        assert_eq!(Some(translated(rig, &rig.tcp(other, SYN))), second_try);
        // Ports of another protocol are others.
        let question = rig.request(UDP, one, 0);
        assert_eq!(Some(translated(rig, &question)), port(1 << BLOCK, hash(rig, &question), 0));
    });
}

#[test]
fn i8_no_two_flows_share_a_port_to_one_endpoint() {
    for_each(|rig| {
        prepare(rig);
        let mut seen: BTreeMap<u16, u16> = BTreeMap::new();
        for client_port in 20000..20400 {
            let port = translated(rig, &rig.tcp(client_port, SYN));
            assert_eq!(seen.insert(port, client_port), None, "port {port}");
        }
        for (port, client_port) in seen {
            let mut answer = rig.reply(TCP, 1, port, SYN | crate::frame::ACK);
            answer.destination.0 = rig.net.floating();
            let back = rig.endpoint_sends(&answer).forwarded(Reason::ForwardedSlow);
            assert_eq!(back.destination, (rig.net.client(), client_port));
        }
    });
}

#[test]
fn i8_a_service_port_is_never_a_source_port() {
    for_each(|rig| {
        prepare(rig);
        let syn = rig.tcp(40000, SYN);
        let tried = |attempt| port(1 << BLOCK, hash(rig, &syn), attempt).unwrap();
        for attempt in 0..3 {
            rig.name_at(rig.net.floating(), tried(attempt), TCP, VERSION);
        }
        assert_eq!(translated(rig, &syn), tried(3));
    });
}

#[test]
fn i8_exhausted_ports_refuse_the_flow_and_are_counted() {
    for_each(|rig| {
        prepare(rig);
        let syn = rig.tcp(40000, SYN);
        // Every port that will be tried is some flow's.
        let holder = Flow::default();
        for attempt in 0..TRIES {
            let port = port(1 << BLOCK, hash(rig, &syn), attempt).unwrap();
            let reply = Packet { destination: (rig.net.floating(), port), ..rig.reply(TCP, 1, port, 0) };
            rig.put_flow(&key(&reply), &holder);
        }
        let entries = rig.flow_entries();
        rig.client_sends(&syn).dropped(Reason::PortsExhausted);
        assert_eq!(rig.flow_entries(), entries, "no half of a flow is left");
        let load = rig.table::<u32, lockstep_abi::service::ServiceLoad>(map::SERVICE_LOADS);
        assert_eq!(load.get(&SERVICE_SLOT).unwrap().connections, 0);
    });
}
