//! What user space hears of a flow, and what happens when it cannot.

use lockstep_abi::event::{CHANGED, CREATED, FlowEvent};
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{ROUND_ROBIN, SYNC_NONE};
use lockstep_abi::state;

use crate::frame::{ACK, FIN, SYN};
use crate::rig::*;

#[test]
fn creation_and_change_are_reported_in_full() {
    with_rig(|rig| {
        let start = now_ns();
        let n = rig.connect(40000);
        rig.client_sends(&tcp(40000, ACK));
        rig.client_sends(&tcp(40000, FIN | ACK));
        let flow = rig.flow(&tcp(40000, 0)).unwrap();
        let events = rig.events();
        let phases: Vec<_> = events.iter().map(|e| (e.kind, e.n, state::phase(e.state_bits))).collect();
        assert_eq!(
            phases,
            [
                (CREATED, 0, state::NEW),
                (CHANGED, 1, state::NEW),
                (CHANGED, 2, state::ESTABLISHED),
                (CHANGED, 3, state::CLOSING)
            ]
        );
        for event in &events {
            let (address, port) = endpoint(n);
            let expected = FlowEvent {
                kind: event.kind,
                shard: key(&tcp(40000, 0)).shard(),
                key: key(&tcp(40000, 0)),
                endpoint_be: be(address),
                endpoint_port_be: port.to_be(),
                pad: 0,
                state_bits: event.state_bits,
                n: event.n,
                birth_ns: flow.birth_ns,
                epoch: EPOCH,
                group: GROUP,
                service: SERVICE,
                endpoint: 100 + u64::from(n),
                now_ns: event.now_ns,
            };
            assert_eq!(*event, expected);
            assert!((start..=now_ns()).contains(&event.now_ns));
        }
        assert_eq!(u64::from(state::n(flow.state)), 3);
    });
}

#[test]
fn the_shard_is_the_one_that_nodes_agreed_on() {
    use std::net::SocketAddr;
    with_rig(|rig| {
        let mut seen = [false; map::SHARDS as usize];
        for port in 40000..40016 {
            let packet = tcp(port, SYN);
            rig.client_sends(&packet);
            let event = rig.events()[0];
            let agreed = lockstep_model::flow::FlowKey {
                client: SocketAddr::from(packet.source),
                service: SocketAddr::from(packet.destination),
                protocol: lockstep_model::protocol::Protocol::Tcp,
            };
            assert_eq!(event.shard, u32::from(agreed.shard()));
            seen[event.shard as usize] = true;
        }
        assert_eq!(seen, [true; map::SHARDS as usize]);
        assert_eq!(map::SHARDS, u32::from(lockstep_model::flow::SHARDS));
        assert_eq!(u128::from(map::MAX_LEASE_NS), lockstep_model::limits::MAX_LEASE.as_nanos());
        assert_eq!(map::MAGLEV_SLOTS as usize, lockstep_model::limits::MAGLEV_SLOTS);
        assert_eq!(map::MAX_ENDPOINTS as usize, lockstep_model::limits::MAX_ENDPOINTS);
        assert!(map::VERSION_SLOTS as usize > lockstep_model::limits::MAX_SERVICES);
        assert_eq!(map::MAX_LEASES as usize, lockstep_model::limits::MAX_GROUPS);
        assert_eq!(map::MAX_ADDRESSES as usize, lockstep_model::limits::MAX_ADDRESSES);
    });
}

#[test]
fn flows_of_a_service_that_is_not_replicated_are_not_reported() {
    with_rig(|rig| {
        rig.service(&[1], ROUND_ROBIN, SYNC_NONE);
        rig.connect(40000);
        assert_eq!(rig.events(), []);
    });
}

#[test]
fn i14_a_full_ring_loses_no_packet_and_says_which_shard_lost_events() {
    with_rig_of(1024, 4096, |rig| {
        let mut made = [0u64; map::SHARDS as usize];
        let mut lost = 0;
        for port in 40000..40200 {
            let packet = tcp(port, SYN);
            let sent = rig.client_sends(&packet);
            sent.forwarded(Reason::ForwardedSlow);
            let now_lost = sent.reasons.get("event_lost").copied().unwrap_or(0);
            made[key(&packet).shard() as usize] += now_lost;
            lost += now_lost;
        }
        assert!(lost > 0);
        let counted: Vec<u64> = rig.array::<u64>(map::LOST_EVENTS).iter().map(Result::unwrap).collect();
        assert_eq!(counted, made);
        assert_eq!(rig.events().len() as u64, 200 - lost);
    });
}
