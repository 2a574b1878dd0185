//! Elements of the flow table that are freed and used again under a packet's hands.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lockstep_abi::flow::NewFlow;
use lockstep_abi::state;

use crate::case::wide;
use crate::frame::{ACK, Packet};
use crate::pool::Size;
use crate::rig::*;

const PORTS: u16 = 8;
const FIRST_PORT: u16 = 40000;
const PACKETS: usize = 40_000;
/// How often the same flows are written before their generations change.
const ROUNDS: usize = 4;

/// Each client port's flow goes to a port of its own at the endpoint, so that what leaves tells whose flow it was.
fn translated_port(port: u16) -> u16 {
    port + 5000
}

fn flow_of(rig: &Rig, port: u16, generation: u32) -> NewFlow<[u32; 4]> {
    let key = key(&rig.tcp(port, 0));
    let mut reply_key = key.reversed();
    reply_key.source_be = wide(rig.net.endpoint(1).0);
    reply_key.source_port_be = translated_port(port).to_be();
    let now_ns = now_ns();
    NewFlow {
        key,
        reply_key,
        address_index: VIP_INDEX as u16,
        address_stamp: (FIRST_STAMP + VIP_INDEX) as u16,
        state_bits: state::ESTABLISHED,
        n: 1,
        now_ns,
        birth_ns: now_ns,
        epoch: EPOCH,
        service: SERVICE,
        endpoint: 101,
        mark: 0,
        flags: 0,
        service_slot: SERVICE_SLOT as u16,
        target: target(1) as u16,
        generation,
    }
}

/// Ends the writer when the reader is through, also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_packet_leaves_with_another_flows_translation() {
    for_cases_of(Size::SMALL, &crate::case::ALL, |rig| {
        let rig = &*rig;
        let hop = lockstep_abi::hop::word(rig.hop_index(rig.net.endpoint(1).0), HOP_STAMP);
        let (done, turns) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut left = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut generation = 0u32;
                while !done.load(Ordering::Relaxed) {
                    // What a written element replaces is the next one's.
                    let flows: Vec<Flow> = (FIRST_PORT..FIRST_PORT + PORTS)
                        .map(|port| {
                            generation = generation.wrapping_add(1);
                            Flow { hop, ..flow_of(rig, port, generation).original() }
                        })
                        .collect();
                    for _ in 0..ROUNDS {
                        rig.put_flows(&flows);
                    }
                    // And so is what is removed.
                    for flow in &flows[..2] {
                        rig.remove_flow(&flow.key);
                    }
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _ends = Ends(&done);
            let frames: Vec<(u16, Vec<u8>)> =
                (FIRST_PORT..FIRST_PORT + PORTS).map(|port| (port, rig.tcp(port, ACK).bytes())).collect();
            for (port, frame) in frames.iter().cycle().take(PACKETS) {
                let (action, out, _) = rig.run(rig.client_side, frame);
                if action == Action::Redirect {
                    let out = Packet::parse(&out);
                    assert_eq!(out.source, (rig.net.client(), *port));
                    assert_eq!(out.destination, (rig.net.endpoint(1).0, translated_port(*port)), "{out:?}");
                    left += 1;
                }
            }
        });
        assert!(left > 0 && turns.load(Ordering::Relaxed) > 50, "{left} left, {turns:?} turns");
    });
}
