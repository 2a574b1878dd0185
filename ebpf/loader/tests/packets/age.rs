//! The sweeper's kernel half.

use lockstep_abi::age::*;
use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::Timeouts;
use lockstep_abi::timeout::{DEAD_NS, TCP_ESTABLISHED_NS};
use lockstep_abi::{map, state};

use crate::case::BOTH_FAMILIES_TC;
use crate::frame::{ACK, SYN, TCP, UDP};
use crate::rig::*;

/// Makes both entries of a flow look as if they had last been used so long ago.
fn idle(rig: &Rig, original: &FlowKey, by_ns: u64) {
    let twin = rig.flow_at(original).unwrap().twin;
    for key in [*original, twin] {
        rig.change_flow(&key, |flow| flow.last_seen_ns = now_ns().wrapping_sub(by_ns));
    }
}

#[test]
fn an_idle_flow_is_marked_and_later_freed() {
    for_each(|rig| {
        rig.connect(40000);
        let name = key(&rig.tcp(40000, 0));
        let born = rig.flow_at(&name).unwrap();
        assert_eq!(rig.age(&[name], 0)[0].outcome, ALIVE);
        idle(rig, &key(&rig.tcp(40000, 0)), TCP_ESTABLISHED_NS + 1);
        let marked = rig.age(&[name], 0)[0];
        assert_eq!(
            (marked.outcome, marked.birth_ns, marked.n),
            (MARKED, born.birth_ns, state::n(born.state) + 1)
        );
        assert_eq!(rig.age(&[name], 0)[0].outcome, DYING);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::FlowDead);
        rig.endpoint_sends(&rig.reply(TCP, 1, 40000, ACK)).dropped(Reason::FlowDead);
        idle(rig, &key(&rig.tcp(40000, 0)), DEAD_NS + 1);
        let freed = rig.age(&[name], 0)[0];
        assert_eq!((freed.outcome, freed.birth_ns, freed.n), (FREED, marked.birth_ns, marked.n));
        assert_eq!(rig.flow_entries(), 0);
        assert_eq!(rig.age(&[name], 0)[0].outcome, ABSENT);
    });
}

#[test]
fn i9_a_client_need_not_wait_until_a_dead_flow_is_freed() {
    for_each(|rig| {
        for protocol in [TCP, UDP] {
            let old = rig.client_sends(&rig.request(protocol, 40000, SYN)).forwarded(Reason::ForwardedSlow);
            let name = key(&rig.request(protocol, 40000, 0));
            let born = rig.flow_at(&name).unwrap();
            let marked = rig.age(&[name], FORCE)[0];
            assert_eq!(marked.outcome, MARKED);
            let out = rig.client_sends(&rig.request(protocol, 40000, SYN)).forwarded(Reason::ForwardedSlow);
            assert_ne!(out.destination, old.destination, "round robin went on");
            let new = rig.flow_at(&name).unwrap();
            assert_eq!(state::phase(state::bits(new.state)), state::NEW);
            assert!(new.birth_ns > born.birth_ns && state::n(new.state) > marked.n, "newer than the removal");
            assert_eq!(new.generation, new.generation_end);
            rig.send_packet(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
            rig.client_sends(&rig.request(protocol, 40000, ACK));
            rig.client_sends(&rig.request(protocol, 40000, ACK)).forwarded(Reason::ForwardedFast);
            // The old one's end is none of the new one's.
            idle(rig, &name, DEAD_NS + 1);
            assert_eq!(rig.age(&[name], 0)[0].outcome, ALIVE);
            rig.remove_flow(&new.twin);
            rig.remove_flow(&name);
        }
    });
}

#[test]
fn a_dead_flow_is_one_packets_or_the_sweepers() {
    for_each(|rig| {
        rig.connect(40000);
        let name = key(&rig.tcp(40000, 0));
        rig.age(&[name], FORCE);
        rig.change_flow(&name, |flow| flow.state |= u64::from(state::CLAIMED));
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::FlowDead);
        idle(rig, &name, DEAD_NS + 1);
        assert_eq!(rig.age(&[name], 0)[0].outcome, DYING);
        rig.change_flow(&name, |flow| flow.state &= !u64::from(state::CLAIMED));
        assert_eq!(rig.age(&[name], 0)[0].outcome, FREED);
    });
}

#[test]
fn a_packet_of_either_direction_keeps_a_flow() {
    for_each(|rig| {
        let n = rig.connect(40000);
        for from_client in [true, false] {
            idle(rig, &key(&rig.tcp(40000, 0)), TCP_ESTABLISHED_NS + 1);
            if from_client {
                rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
            } else {
                rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
            }
            assert_eq!(rig.age(&[key(&rig.tcp(40000, 0))], 0)[0].outcome, ALIVE);
        }
    });
}

#[test]
fn a_service_says_how_long_its_flows_may_be_idle() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        const SHORT_NS: u64 = 60_000_000_000;
        rig.connect(40000);
        let name = key(&rig.tcp(40000, 0));
        let timeouts = rig.table::<u32, Timeouts>(map::SERVICE_TIMEOUTS);
        timeouts.change(&SERVICE_SLOT, |timeouts| timeouts.established_ns = SHORT_NS);
        idle(rig, &key(&rig.tcp(40000, 0)), SHORT_NS / 2);
        assert_eq!(rig.age(&[name], 0)[0].outcome, ALIVE);
        idle(rig, &key(&rig.tcp(40000, 0)), SHORT_NS + 1);
        // The slot is another service's meanwhile: the default holds.
        timeouts.change(&SERVICE_SLOT, |timeouts| timeouts.service = SERVICE + 1);
        assert_eq!(rig.age(&[name], 0)[0].outcome, ALIVE);
        timeouts.change(&SERVICE_SLOT, |timeouts| timeouts.service = SERVICE);
        assert_eq!(rig.age(&[name], 0)[0].outcome, MARKED);
    });
}

#[test]
fn i5_age_counts_from_the_takeover_and_a_standby_does_not_age() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        rig.connect(40000);
        let name = key(&rig.tcp(40000, 0));
        idle(rig, &key(&rig.tcp(40000, 0)), 2 * TCP_ESTABLISHED_NS);
        rig.drop_lease();
        assert_eq!(rig.age(&[name], 0)[0].outcome, NOT_OWNER);
        rig.lease(LeaseValue { epoch: EPOCH + 1, since_ns: now_ns(), flags: UNBOUNDED, ..bounded(0) });
        assert_eq!(rig.age(&[name], 0)[0].outcome, ALIVE);
        rig.drop_lease();
        assert_eq!(rig.age(&[name], FORCE)[0].outcome, MARKED, "a removed service's flows end anywhere");
    });
}

#[test]
fn a_full_batch_is_considered() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        rig.connect(40000);
        let mut keys = vec![FlowKey::default(); AGE_BATCH];
        keys[AGE_BATCH - 1] = key(&rig.tcp(40000, 0));
        keys[3] = key(&rig.reply(TCP, 1, 40000, 0));
        let outcomes: Vec<u32> = rig.age(&keys, 0).iter().map(|e| e.outcome).collect();
        assert_eq!(outcomes[..AGE_BATCH - 1], [ABSENT; AGE_BATCH - 1], "a reply's key names no flow");
        assert_eq!(outcomes[AGE_BATCH - 1], ALIVE);
    });
}
