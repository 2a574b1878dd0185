//! The sweeper's kernel half.

use aya::programs::{TestRun, TestRunOptions};
use lockstep_abi::age::*;
use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::reason::Reason;
use lockstep_abi::timeout::{DEAD_NS, TCP_ESTABLISHED_NS};
use lockstep_abi::{map, state};

use crate::frame::{ACK, SYN};
use crate::rig::*;

fn age(rig: &mut Rig, keys: &[FlowKey4], flags: u32) -> Vec<AgeEntry> {
    let mut input = vec![0u8; AGE_HEADER];
    for key in keys {
        let entry = AgeEntry { key: *key, flags, ..AgeEntry::default() };
        // SAFETY: integers without padding.
        input.extend(unsafe { std::mem::transmute::<AgeEntry, [u8; size_of::<AgeEntry>()]>(entry) });
    }
    let mut output = vec![0; input.len()];
    let options =
        TestRunOptions { data_in: Some(&input), data_out: Some(&mut output), ..TestRunOptions::default() };
    let result = program(&mut rig.ebpf, map::PROGRAM_AGE).test_run(options).unwrap();
    assert_eq!(result.return_value as usize, keys.len(), "every entry was considered");
    output[AGE_HEADER..]
        .chunks_exact(size_of::<AgeEntry>())
        // SAFETY: as long as an AgeEntry, of which any bytes are one.
        .map(|bytes| unsafe { bytes.as_ptr().cast::<AgeEntry>().read_unaligned() })
        .collect()
}

/// Makes both entries of a flow look as if they had last been used so long ago.
fn idle(rig: &mut Rig, port: u16, by_ns: u64) {
    let original = key(&tcp(port, 0));
    let twin = rig.hash::<FlowKey4, FlowValue4>(map::FLOWS).get(&original, 0).unwrap().twin;
    for key in [original, twin] {
        let mut flows = rig.hash::<FlowKey4, FlowValue4>(map::FLOWS);
        let mut value = flows.get(&key, 0).unwrap();
        value.last_seen_ns = now_ns().wrapping_sub(by_ns);
        flows.insert(key, value, 0).unwrap();
    }
}

#[test]
fn an_idle_flow_is_marked_and_later_freed() {
    with_rig(|rig| {
        rig.connect(40000);
        let name = key(&tcp(40000, 0));
        let born = rig.flow(&tcp(40000, 0)).unwrap();
        assert_eq!(age(rig, &[name], 0)[0].outcome, ALIVE);
        idle(rig, 40000, TCP_ESTABLISHED_NS + 1);
        let marked = age(rig, &[name], 0)[0];
        assert_eq!(
            (marked.outcome, marked.birth_ns, marked.n),
            (MARKED, born.birth_ns, state::n(born.state) + 1)
        );
        assert_eq!(age(rig, &[name], 0)[0].outcome, DYING);
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::FlowDead);
        rig.client_sends(&tcp(40000, SYN)).dropped(Reason::FlowDead);
        rig.endpoint_sends(&reply(6, 1, 40000, ACK)).dropped(Reason::FlowDead);
        idle(rig, 40000, DEAD_NS + 1);
        assert_eq!(age(rig, &[name], 0)[0], AgeEntry { outcome: FREED, ..marked });
        assert_eq!(rig.flow_entries(), 0);
        assert_eq!(age(rig, &[name], 0)[0].outcome, ABSENT);
    });
}

#[test]
fn a_packet_of_either_direction_keeps_a_flow() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        idle(rig, 40000, TCP_ESTABLISHED_NS + 1);
        rig.endpoint_sends(&reply(6, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(age(rig, &[key(&tcp(40000, 0))], 0)[0].outcome, ALIVE);
    });
}

#[test]
fn i5_age_counts_from_the_takeover_and_a_standby_does_not_age() {
    with_rig(|rig| {
        rig.connect(40000);
        let name = key(&tcp(40000, 0));
        idle(rig, 40000, 2 * TCP_ESTABLISHED_NS);
        rig.drop_lease();
        assert_eq!(age(rig, &[name], 0)[0].outcome, NOT_OWNER);
        let since_ns = now_ns();
        rig.lease(LeaseValue {
            until_ns: 0,
            epoch: EPOCH + 1,
            since_ns,
            group: GROUP,
            flags: UNBOUNDED,
            frozen: 0,
        });
        assert_eq!(age(rig, &[name], 0)[0].outcome, ALIVE);
        rig.drop_lease();
        assert_eq!(age(rig, &[name], FORCE)[0].outcome, MARKED, "a removed service's flows end anywhere");
    });
}

#[test]
fn a_full_batch_is_considered() {
    with_rig(|rig| {
        rig.connect(40000);
        let mut keys = vec![FlowKey4::default(); AGE_BATCH];
        keys[AGE_BATCH - 1] = key(&tcp(40000, 0));
        keys[3] = key(&reply(6, 1, 40000, 0));
        let outcomes: Vec<u32> = age(rig, &keys, 0).iter().map(|e| e.outcome).collect();
        assert_eq!(outcomes[..AGE_BATCH - 1], [ABSENT; AGE_BATCH - 1], "a reply's key names no flow");
        assert_eq!(outcomes[AGE_BATCH - 1], ALIVE);
    });
}
