//! The same flows on several CPUs at once.

use std::collections::BTreeMap;

use lockstep_abi::event::{CHANGED, CREATED};
use lockstep_abi::flow::{FlowKey4, FlowValue4, ORIGINAL, PATH_FAST, REPLY};
use lockstep_abi::{map, state};

use crate::frame::{ACK, FIN, Packet, RST, SYN};
use crate::rig::*;

const THREADS: usize = 8;
const ROUNDS: usize = 4000;
const PORTS: [u16; 3] = [40000, 40001, 40002];

/// Packets in an order that differs from thread to thread but not from run to run.
fn packets(thread: usize) -> impl Iterator<Item = Packet> {
    let mut random = thread as u64 + 1;
    (0..ROUNDS).map(move |_| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let choice = (random >> 33) as usize;
        let port = PORTS[choice % PORTS.len()];
        let flags = [SYN, ACK, FIN | ACK, RST, ACK, SYN | ACK][choice / 3 % 6];
        if (choice / 18).is_multiple_of(2) {
            tcp(port, flags)
        } else {
            reply(6, (choice / 36 % 3 + 1) as u8, port, flags)
        }
    })
}

#[test]
fn i5_every_change_of_a_flow_is_reported_once_and_in_a_count_without_gaps() {
    with_rig(|rig| {
        let (client_side, endpoint_side) = (rig.client_side, rig.endpoint_side);
        let entry = &*program(&mut rig.ebpf, map::PROGRAM_ENTRY);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for packet in packets(thread) {
                        let interface =
                            if packet.to == CLIENT_SIDE_MAC { client_side } else { endpoint_side };
                        let (action, out) = run(entry, interface, &packet.bytes());
                        if action == REDIRECT {
                            // What leaves is whole, whoever else works on the flow: checksums are verified.
                            let out = Packet::parse(&out);
                            let from_vip = out.source == (VIP, 80);
                            assert!(from_vip || out.destination.1 == 8080, "{out:?}");
                        }
                    }
                });
            }
        });
        assert_eq!(rig.counters()["event_lost"], 0);
        // For each life of a flow: created once, then each count once.
        let mut lives: BTreeMap<(u16, u64), Vec<(u32, u32)>> = BTreeMap::new();
        for event in rig.events() {
            assert_eq!(event.endpoint, 90 + u64::from(event.endpoint_be.to_ne_bytes()[3]), "{event:?}");
            let life = lives.entry((event.key.source_port_be, event.birth_ns)).or_default();
            life.push((event.n, event.kind));
        }
        for (life, events) in &mut lives {
            events.sort_unstable();
            let first = events[0].0;
            for (i, event) in events.iter().enumerate() {
                let kind = if i == 0 { CREATED } else { CHANGED };
                assert_eq!(*event, (first + i as u32, kind), "{life:?}: {events:?}");
            }
        }
        assert!(lives.len() > PORTS.len(), "SYNs on closed flows began others");
        // Every original has its reply entry and holds the last reported count; what else is there is dead.
        let flows = rig.hash::<FlowKey4, FlowValue4>(map::FLOWS);
        let entries: Vec<(FlowKey4, FlowValue4)> = flows.iter().map(Result::unwrap).collect();
        let mut paired = 0;
        for (key, value) in entries.iter().filter(|(_, value)| value.kind == ORIGINAL) {
            assert_eq!((*key, value.generation), (value.key, value.generation_end));
            let last = lives[&(key.source_port_be, value.birth_ns)].last().unwrap().0;
            assert_eq!(last, state::n(value.state));
            let other = flows.get(&value.twin, 0).unwrap();
            assert_eq!((other.key, other.twin), (value.twin, *key));
            let path = state::path(state::bits(value.state));
            assert_eq!((value.path, other.path), (path, path), "both paths follow the last state");
            paired += 1;
        }
        assert_eq!(paired, PORTS.len());
        for (key, value) in entries.iter().filter(|(_, value)| value.kind == REPLY) {
            let original = flows.get(&value.twin, 0).unwrap();
            assert!(original.twin == *key || value.path != PATH_FAST, "{value:?}");
        }
    });
}
