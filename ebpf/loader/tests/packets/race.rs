//! The same flows on several CPUs at once.

use std::collections::BTreeMap;

use lockstep_abi::event::{CHANGED, CREATED};
use lockstep_abi::flow::{ORIGINAL, PATH_FAST, REPLY};
use lockstep_abi::state;

use crate::frame::{ACK, FIN, Packet, RST, SYN, TCP};
use crate::rig::*;

const THREADS: usize = 8;
const ROUNDS: usize = 4000;
const PORTS: [u16; 3] = [40000, 40001, 40002];

/// Packets in an order that differs from thread to thread but not from run to run.
fn packets(rig: &Rig, thread: usize) -> impl Iterator<Item = Packet> {
    let mut random = thread as u64 + 1;
    (0..ROUNDS).map(move |_| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let choice = (random >> 33) as usize;
        let port = PORTS[choice % PORTS.len()];
        let flags = [SYN, ACK, FIN | ACK, RST, ACK, SYN | ACK][choice / 3 % 6];
        if (choice / 18).is_multiple_of(2) {
            rig.tcp(port, flags)
        } else {
            rig.reply(TCP, (choice / 36 % 3 + 1) as u8, port, flags)
        }
    })
}

#[test]
fn i5_every_change_of_a_flow_is_reported_once_and_in_a_count_without_gaps() {
    for_each(|rig| {
        let rig = &*rig;
        let lost_before = rig.counters()["event_lost"];
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for packet in packets(rig, thread) {
                        let from_client = packet.source.0 == rig.net.client();
                        let interface = if from_client { rig.client_side } else { rig.endpoint_side };
                        let (action, out, _) = rig.run(interface, &packet.bytes());
                        if action == Action::Redirect {
                            // What leaves is whole, whoever else works on the flow: checksums are verified.
                            let out = Packet::parse(&out);
                            let from_vip = out.source == (rig.net.vip(), 80);
                            assert!(from_vip || out.destination.1 == 8080, "{out:?}");
                        }
                    }
                });
            }
        });
        assert_eq!(rig.counters()["event_lost"], lost_before);
        // For each life of a flow: created once, then each count once.
        let mut lives: BTreeMap<(u16, u64), Vec<(u32, u32)>> = BTreeMap::new();
        for event in rig.events() {
            let endpoint = rig.net.endpoint((event.endpoint - 100) as u8).0;
            assert_eq!(event.reply_key.source_be, crate::case::wide(endpoint), "{event:?}");
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
        let entries = rig.flows();
        let mut paired = 0;
        for (key, flow) in entries.iter().filter(|(_, flow)| flow.kind() == ORIGINAL) {
            assert_eq!((*key, flow.generation), (flow.key, flow.generation_end));
            let last = lives[&(key.source_port_be, flow.birth_ns)].last().unwrap().0;
            assert_eq!(last, state::n(flow.state));
            let other = rig.flow_at(&flow.twin).unwrap();
            assert_eq!((other.key, other.twin), (flow.twin, *key));
            let path = state::path(state::bits(flow.state), flow.flags);
            assert_eq!((flow.path, other.path), (path, path), "both paths follow the last state");
            paired += 1;
        }
        assert_eq!(paired, PORTS.len());
        for (key, flow) in entries.iter().filter(|(_, flow)| flow.kind() == REPLY) {
            let original = rig.flow_at(&flow.twin).unwrap();
            assert!(original.twin == *key || flow.path != PATH_FAST, "{flow:?}");
        }
    });
}

#[test]
fn i9_copies_of_a_syn_at_once_go_to_one_endpoint() {
    const NEW_PORTS: std::ops::Range<u16> = 20000..20400;
    for_each(|rig| {
        rig.publish(&Service::over(&[1, 2, 3]));
        let rig = &*rig;
        let start = std::sync::Barrier::new(2);
        let send = || {
            let sent = NEW_PORTS.map(|port| {
                let syn = rig.tcp(port, SYN).bytes();
                start.wait();
                let (action, out, _) = rig.run(rig.client_side, &syn);
                (action == Action::Redirect).then(|| Packet::parse(&out).destination)
            });
            sent.collect::<Vec<_>>()
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(send);
            (send(), other.join().unwrap())
        });
        for (port, sent) in NEW_PORTS.zip(one.iter().zip(&other)) {
            let flow = rig.flow(&rig.tcp(port, SYN)).unwrap();
            let endpoint = flow.twin.source_be;
            for to in [sent.0, sent.1].into_iter().flatten() {
                assert_eq!((crate::case::wide(to.0), to.1), (endpoint, 8080), "port {port}");
            }
        }
        assert!(one.iter().chain(&other).flatten().count() >= NEW_PORTS.len(), "most SYNs are sent on");
    });
}
