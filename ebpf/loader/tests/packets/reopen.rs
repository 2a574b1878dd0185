//! Entries that are there already when a SYN begins another connection: what of them stays, and who may write to them.

use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_abi::hop::word;
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::MAGLEV;
use lockstep_abi::state;

use crate::case::BOTH_FAMILIES_XDP;
use crate::frame::{ACK, FIN, SYN, TCP};
use crate::rig::*;

const ROUNDS: usize = 500;

/// A connection that both sides have ended; answers its endpoint.
fn closed(rig: &Rig, port: u16) -> u8 {
    let n = rig.connect(port);
    rig.client_sends(&rig.tcp(port, FIN | ACK));
    rig.endpoint_sends(&rig.reply(TCP, n, port, FIN | ACK));
    n
}

#[test]
fn i9_a_reply_entry_that_is_claimed_is_not_written_over() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        let n = closed(rig, 40000);
        let reply = key(&rig.reply(TCP, n, 40000, 0));
        // By a CPU that takes back what it has only just written.
        rig.change_flow(&reply, |flow| flow.state = state::word(state::CLAIMED, 0));
        let before = rig.flow_at(&reply).unwrap();
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::Raced);
        let after = rig.flow_at(&reply).unwrap();
        assert_eq!((after.generation, after.birth_ns), (before.generation, before.birth_ns));
        rig.change_flow(&reply, |flow| flow.state = 0);
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        let original = rig.flow(&rig.tcp(40000, 0)).unwrap();
        let after = rig.flow_at(&reply).unwrap();
        assert_eq!((after.generation, after.state), (original.generation, 0));
    });
}

#[test]
fn a_reopened_flow_keeps_the_way_to_its_client() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        let n = closed(rig, 40000);
        let reply = key(&rig.reply(TCP, n, 40000, 0));
        let before = rig.flow_at(&reply).unwrap();
        assert_ne!(before.hop, 0);
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        let after = rig.flow_at(&reply).unwrap();
        assert_ne!(after.birth_ns, before.birth_ns);
        assert_eq!(after.hop, before.hop);
    });
}

/// A service of one endpoint, with a way to it.
fn publish(rig: &Rig, n: u8) {
    let hop = word(rig.hop_index(rig.net.endpoint(n).0), HOP_STAMP);
    rig.table(map::ENDPOINT_HOPS).put(&(VERSION * map::MAX_ENDPOINTS), &hop);
    rig.publish(&Service::over(&[n]).with(|version| version.algorithm = MAGLEV));
}

/// Lets nobody wait for a thread that has failed.
struct Ends<'a>([&'a AtomicUsize; 2]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        for counter in self.0 {
            counter.store(usize::MAX / 2, Ordering::Release);
        }
    }
}

/// Both write the new endpoint's entry. One of them takes it back, unless it is the other's flow's by then.
#[test]
fn i9_two_syns_at_once_on_a_closed_flow_leave_it_whole() {
    for_cases(&BOTH_FAMILIES_XDP, |rig| {
        rig.maglev(VERSION, &vec![0; map::MAGLEV_SLOTS as usize]);
        publish(rig, 1);
        let rig = &*rig;
        let syn = rig.tcp(40000, SYN).bytes();
        let (ready, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // The same number of arrivals on both sides: nobody runs ahead, and both start within a few instructions.
        let meet = |counter: &AtomicUsize, all: usize| {
            counter.fetch_add(1, Ordering::AcqRel);
            while counter.load(Ordering::Acquire) < all {
                std::hint::spin_loop();
            }
        };
        let send = |round: usize| {
            meet(&ready, 2 * round);
            rig.run(rig.client_side, &syn);
            meet(&ended, 2 * round);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=ROUNDS).for_each(send));
            let _ends = Ends([&ready, &ended]);
            let mut judged = 0;
            for round in 1..=ROUNDS {
                closed(rig, 40000);
                publish(rig, if round % 2 == 0 { 1 } else { 2 });
                send(round);
                let original = rig.flow(&rig.tcp(40000, 0)).unwrap();
                if state::bits(original.state) & state::DEAD != 0 {
                    continue;
                }
                let reply = rig.flow_at(&original.twin);
                let whole = reply.is_some_and(|reply| {
                    reply.twin == original.key
                        && (reply.generation, reply.generation_end)
                            == (original.generation, original.generation)
                });
                assert!(whole, "round {round}: {original:?} {reply:?}");
                judged += 1;
            }
            assert!(judged > ROUNDS / 2, "in {judged} of {ROUNDS} rounds the flow was there");
        });
    });
}
