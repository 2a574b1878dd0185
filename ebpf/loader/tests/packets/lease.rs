//! I3 and I4: without the lease the kernel forwards and answers nothing, whatever the daemon does.

use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map::MAX_LEASE_NS;
use lockstep_abi::reason::Reason;

use crate::case::{Family, Side};
use crate::frame::{ACK, FIN, SYN, TCP, UDP, arp, echo};
use crate::rig::*;

#[test]
fn i4_without_a_lease_nothing_is_forwarded_in_either_direction() {
    for_each(|rig| {
        let n = rig.connect(40000);
        rig.client_sends(&rig.request(UDP, 5000, 0)).forwarded(Reason::ForwardedSlow);
        rig.drop_lease();
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).dropped(Reason::NoLease);
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::NoLease);
        rig.client_sends(&rig.tcp(40001, SYN)).dropped(Reason::NoLease);
        rig.client_sends(&rig.tcp(40001, ACK)).dropped(Reason::NoLease);
        rig.client_sends(&rig.request(UDP, 5000, 0)).dropped(Reason::NoLease);
        rig.client_sends(&rig.request(UDP, 5001, 0)).dropped(Reason::NoLease);
        let mut unknown_port = rig.tcp(40001, SYN);
        unknown_port.destination.1 = 81;
        rig.client_sends(&unknown_port).dropped(Reason::NoLease);
        assert_eq!(rig.flow_entries(), 4, "a standby makes no flow");
        rig.hold_lease();
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn i4_without_a_lease_nothing_is_answered() {
    for_each(|rig| {
        rig.drop_lease();
        let (to, from) = (Side::Clients.own_mac(), Side::Clients.mac(50));
        if rig.net == Family::V4 {
            let ask = arp([0xff; 6], 1, (from, rig.net.client()), ([0; 6], rig.net.vip()));
            rig.send(rig.client_side, &ask).dropped(Reason::NoLease);
        }
        let ping = echo(to, from, rig.tcp(1, 0).header(), true, &[0, 1, 0, 1]);
        rig.send(rig.client_side, &ping).dropped(Reason::NoLease);
    });
}

#[test]
fn i4_a_lease_ends_by_itself() {
    for_each(|rig| {
        rig.connect(40000);
        let ack = rig.tcp(40000, ACK).bytes();
        let end = rig.lease_until(200_000_000);
        let mut forwarded = 0;
        let mut dropped = 0;
        // Nobody writes the lease any more, as when the daemon is stopped.
        while dropped < 10 {
            let before = now_ns();
            let sent = rig.send(rig.client_side, &ack);
            if sent.action == Action::Redirect {
                assert!(before < end, "forwarded {} ns after the lease's end", before - end);
                forwarded += 1;
            } else {
                assert!(now_ns() >= end, "dropped before the lease's end");
                sent.dropped(Reason::NoLease);
                dropped += 1;
            }
        }
        assert!(forwarded > 0, "none while it was held");
    });
}

#[test]
fn i4_a_lease_that_ends_implausibly_late_is_none() {
    for_each(|rig| {
        rig.connect(40000);
        rig.lease_until(MAX_LEASE_NS as i64 + 200_000_000);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.lease_until(i64::MAX / 2);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.lease(bounded(u64::MAX));
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.lease_until(MAX_LEASE_NS as i64 - 1_000_000);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.lease_until(-1);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
    });
}

#[test]
fn i4_an_unbounded_lease_holds_until_it_is_bounded() {
    for_each(|rig| {
        rig.connect(40000);
        rig.lease(LeaseValue { flags: UNBOUNDED, ..bounded(0) });
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.lease(bounded(0));
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
    });
}

/// A note for this end that is far from running out.
fn note(rig: &Rig, until_ns: u64) -> u64 {
    // What the program itself writes tells the kernel's jiffies, which a test cannot read.
    rig.lease_until(MAX_LEASE_NS as i64 - 1_000_000);
    rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    let fast = rig.table::<u32, LeaseValue>(lockstep_abi::map::LEASES).get(&SLOT).unwrap().fast;
    assert_ne!(fast, 0, "the program leaves a note");
    (fast >> 32) << 32 | u64::from(until_ns as u32)
}

#[test]
fn i4_a_note_does_not_outlive_its_lease() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let drops = |rig: &Rig| {
            rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
            rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).dropped(Reason::NoLease);
            rig.client_sends(&rig.tcp(40001, SYN)).dropped(Reason::NoLease);
        };
        // Closed, with the note of the end it had, and with one that names the closed lease's.
        let fast = note(rig, 0);
        rig.change_lease(|lease| lease.until_ns = 0);
        drops(rig);
        rig.change_lease(|lease| lease.fast = fast);
        drops(rig);
        rig.change_lease(|lease| lease.fast = u64::MAX << 32);
        drops(rig);
        // Another end, which is over.
        let over = now_ns() - 1_000_000;
        let fast = note(rig, over.wrapping_add(1));
        rig.lease(LeaseValue { fast, ..bounded(over) });
        drops(rig);
    });
}

#[test]
fn i4_without_a_note_a_lease_that_is_closed_is_closed_at_any_time() {
    for_each(|rig| {
        rig.connect(40000);
        for fast in [0, 1 << 31 << 32, 1 << 32, u64::from(u32::MAX) << 32] {
            rig.lease(LeaseValue { fast, ..bounded(0) });
            rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
        }
    });
}

#[test]
fn i4_a_renewed_lease_goes_on_and_has_a_note_of_its_own() {
    for_each(|rig| {
        rig.connect(40000);
        let fast = note(rig, 0);
        // The end that the note is about is nearly there; the lease is renewed in time.
        let until_ns = now_ns() + 800_000_000;
        rig.lease(LeaseValue { fast, ..bounded(until_ns) });
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        let lease = rig.table::<u32, LeaseValue>(lockstep_abi::map::LEASES).get(&SLOT).unwrap();
        assert_eq!(lease.fast as u32, until_ns as u32, "the note is about the new end");
    });
}

#[test]
fn under_a_stale_intent_no_flow_begins_and_every_flow_goes_on() {
    for_each(|rig| {
        let n = rig.connect(40000);
        rig.client_sends(&rig.request(UDP, 5000, 0)).forwarded(Reason::ForwardedSlow);
        let over = rig.connect(40001);
        rig.client_sends(&rig.tcp(40001, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&rig.reply(TCP, over, 40001, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        let entries = rig.flow_entries();

        rig.freeze(true);
        rig.client_sends(&rig.tcp(40002, SYN)).dropped(Reason::IntentStale);
        rig.client_sends(&rig.request(UDP, 5001, 0)).dropped(Reason::IntentStale);
        assert_eq!(rig.flow_entries(), entries, "none was made");
        // What may not be replaced stays as it is, up to its last acknowledgement.
        let before = rig.flow(&rig.tcp(40001, 0)).unwrap();
        rig.client_sends(&rig.tcp(40001, SYN)).dropped(Reason::IntentStale);
        assert_eq!(rig.flow(&rig.tcp(40001, 0)).unwrap().state, before.state);
        rig.client_sends(&rig.tcp(40001, ACK)).forwarded(Reason::ForwardedFast);

        let out = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(out.destination, rig.net.endpoint(n));
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.client_sends(&rig.request(UDP, 5000, 0)).forwarded(Reason::ForwardedSlow);
        // Changes of state too, and a handshake's repetition on a live flow.
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);

        rig.freeze(false);
        rig.client_sends(&rig.tcp(40002, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.request(UDP, 5001, 0)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn under_a_stale_intent_a_packet_that_would_begin_no_flow_is_dropped_for_its_own_reason() {
    for_each(|rig| {
        rig.freeze(true);
        rig.client_sends(&rig.tcp(40002, ACK)).dropped(Reason::Miss);
    });
}

#[test]
fn without_a_lease_a_stale_intent_is_not_the_reason() {
    for_each(|rig| {
        rig.drop_lease();
        rig.freeze(true);
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::NoLease);
    });
}

#[test]
fn i3_a_flow_obeys_the_group_that_has_its_address_now() {
    for_each(|rig| {
        rig.connect(40000);
        // The VIP moves to a group whose lease is held elsewhere: the flow keeps its index.
        rig.change_address(VIP_INDEX, |address| address.lease_slot = SLOT + 1);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::NoLease);
        // The index is given to another address.
        rig.change_address(VIP_INDEX, |address| {
            address.lease_slot = SLOT;
            address.stamp += 1;
        });
        for flags in [ACK, FIN | ACK] {
            rig.client_sends(&rig.tcp(40000, flags)).dropped(Reason::AddressGone);
            rig.endpoint_sends(&rig.reply(TCP, 1, 40000, flags)).dropped(Reason::AddressGone);
        }
        // It is free, and so says no flow any more.
        rig.change_address(VIP_INDEX, |address| address.stamp = 0);
        rig.client_sends(&rig.tcp(40000, ACK)).dropped(Reason::AddressGone);
    });
}
