//! What user space hears of a flow, and what happens when it cannot.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use lockstep_abi::event::{ASLEEP, AWAKE, CHANGED, CREATED};
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{SYNC_ESTABLISHED, SYNC_NONE};
use lockstep_abi::state;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::case::ALL;
use crate::frame::{ACK, FIN, RST, SYN, TCP, UDP};
use crate::pool::Size;
use crate::rig::*;

/// As far behind the precise clock the one that events have may be.
const SLACK_NS: u64 = 50_000_000;

#[test]
fn creation_and_change_are_reported_in_full() {
    for_each(|rig| {
        let start = now_ns();
        let n = rig.connect(40000);
        rig.client_sends(&rig.tcp(40000, ACK));
        rig.client_sends(&rig.tcp(40000, FIN | ACK));
        let flow = rig.flow(&rig.tcp(40000, 0)).unwrap();
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
            let expected = Event {
                kind: event.kind,
                shard: key(&rig.tcp(40000, 0)).shard(),
                key: key(&rig.tcp(40000, 0)),
                reply_key: key(&rig.reply(TCP, n, 40000, 0)),
                state_bits: event.state_bits,
                n: event.n,
                birth_ns: flow.birth_ns,
                epoch: EPOCH,
                group: GROUP,
                service: SERVICE,
                endpoint: 100 + u64::from(n),
                now_ns: event.now_ns,
                flags: 0,
                pad: 0,
            };
            assert_eq!(*event, expected);
            assert!((start - SLACK_NS..=now_ns() + SLACK_NS).contains(&event.now_ns));
        }
        assert_eq!(state::n(flow.state), 3);
    });
}

#[test]
fn the_shard_is_the_one_that_nodes_agreed_on() {
    for_each(|rig| {
        let mut seen = [false; map::SHARDS as usize];
        for port in 40000..40016 {
            let packet = rig.tcp(port, SYN);
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
    });
}

#[test]
fn the_limits_are_those_that_nodes_agreed_on() {
    assert_eq!(map::SHARDS, u32::from(lockstep_model::flow::SHARDS));
    assert_eq!(u128::from(map::MAX_LEASE_NS), lockstep_model::limits::MAX_LEASE.as_nanos());
    assert_eq!(map::MAGLEV_SLOTS as usize, lockstep_model::limits::MAGLEV_SLOTS);
    assert_eq!(map::MAX_ENDPOINTS as usize, lockstep_model::limits::MAX_ENDPOINTS);
    assert!(map::VERSION_SLOTS as usize > lockstep_model::limits::MAX_SERVICES);
    assert_eq!(map::MAX_LEASES as usize, lockstep_model::limits::MAX_GROUPS);
    assert_eq!(map::MAX_ADDRESSES as usize, lockstep_model::limits::MAX_ADDRESSES);
}

#[test]
fn flows_of_a_service_that_is_not_replicated_are_not_reported() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.sync = SYNC_NONE));
        rig.connect(40000);
        rig.client_sends(&rig.tcp(40000, FIN | ACK));
        assert_eq!(rig.events(), []);
    });
}

#[test]
fn flows_that_are_replicated_late_are_reported_once_established() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]).with(|version| version.sync = SYNC_ESTABLISHED));
        let out = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&out.answer(SYN | ACK));
        assert_eq!(rig.events(), [], "it may come to nothing yet");
        rig.client_sends(&rig.tcp(40000, ACK));
        rig.client_sends(&rig.tcp(40000, FIN | ACK));
        let phases: Vec<_> = rig.events().iter().map(|e| (e.kind, state::phase(e.state_bits))).collect();
        assert_eq!(phases, [(CHANGED, state::ESTABLISHED), (CHANGED, state::CLOSING)]);
        rig.client_sends(&rig.request(UDP, 5000, 0));
        assert_eq!(rig.events(), []);
        rig.endpoint_sends(&rig.reply(UDP, 1, 5000, 0));
        assert_eq!(rig.events().len(), 1);
    });
}

#[test]
fn i14_a_full_ring_loses_no_packet_and_says_which_shard_lost_events() {
    for_cases_of(Size { event_bytes: 4096, ..Size::ORDINARY }, &ALL, |rig| {
        let mut made = [0u64; map::SHARDS as usize];
        let mut lost = 0;
        for port in 40000..40200 {
            let packet = rig.tcp(port, SYN);
            let sent = rig.client_sends(&packet);
            sent.forwarded(Reason::ForwardedSlow);
            let now_lost = sent.count(Reason::EventLost);
            made[key(&packet).shard() as usize] += now_lost;
            lost += now_lost;
        }
        assert!(lost > 0);
        let table = rig.table::<u32, u64>(map::LOST_EVENTS);
        let counted: Vec<u64> = (0..map::SHARDS).map(|shard| table.get(&shard).unwrap()).collect();
        assert_eq!(counted, made);
        assert_eq!(rig.events().len() as u64, 200 - lost);
    });
}

/// Tells of the ring buffer as the daemon hears of it: once for each time that it was made readable.
fn watch(rig: &Rig) -> Epoll {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    epoll.add(rig.loaded().tables.fd(map::EVENTS), EpollEvent::new(edge, 0)).unwrap();
    epoll
}

fn told(epoll: &Epoll, patience_ms: u16) -> bool {
    epoll.wait(&mut [EpollEvent::empty()], patience_ms).unwrap() == 1
}

#[test]
fn the_reader_is_told_of_events_when_it_sleeps() {
    for_each(|rig| {
        let reader = rig.table::<u32, u32>(map::EVENT_READER);
        reader.put(&0, &AWAKE);
        let epoll = watch(rig);
        rig.client_sends(&rig.tcp(40000, SYN));
        assert!(!told(&epoll, 20), "told though it is awake");
        assert_eq!(rig.events().len(), 1);
        reader.put(&0, &ASLEEP);
        for port in [40001, 40002] {
            rig.client_sends(&rig.tcp(port, SYN));
            assert!(told(&epoll, 5000), "not told though it sleeps");
        }
        reader.put(&0, &AWAKE);
        assert_eq!(rig.events().len(), 2, "what wakes is no event");
    });
}

#[test]
fn i5_no_event_comes_between_the_last_look_and_sleep() {
    const EVENTS: u16 = 500;
    for_each(|rig| {
        let rig = &*rig;
        let epoll = watch(rig);
        let seen = AtomicU16::new(0);
        let read = &seen;
        std::thread::scope(|scope| {
            // As the loader's FlowEvents and who waits for it.
            let reader = scope.spawn(move || {
                let reader = rig.table::<u32, u32>(map::EVENT_READER);
                let mut asleep = false;
                reader.put(&0, &AWAKE);
                while read.load(Ordering::SeqCst) < EVENTS {
                    let found = rig.events().len() as u16;
                    read.fetch_add(found, Ordering::SeqCst);
                    if asleep && found == 0 {
                        assert!(told(&epoll, 5000), "an event came, and nobody was told");
                    } else if asleep || found == 0 {
                        asleep = found == 0;
                        reader.put(&0, &if asleep { ASLEEP } else { AWAKE });
                        fence(Ordering::SeqCst);
                    }
                }
                reader.put(&0, &AWAKE);
            });
            // One at a time: the next comes when the reader is about to sleep.
            for number in 0..EVENTS {
                rig.client_sends(&rig.tcp(40000, if number % 2 == 0 { SYN } else { RST }));
                while seen.load(Ordering::SeqCst) <= number && !reader.is_finished() {
                    std::thread::yield_now();
                }
            }
        });
    });
}
