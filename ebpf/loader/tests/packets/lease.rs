//! I3 and I4: without the lease the kernel forwards and answers nothing, whatever the daemon does.

use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map::MAX_LEASE_NS;
use lockstep_abi::reason::Reason;

use crate::frame::{ACK, FIN, SYN, arp, icmp, ipv4};
use crate::rig::*;

#[test]
fn i4_without_a_lease_nothing_is_forwarded_in_either_direction() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        rig.client_sends(&request(17, 5000, 0)).forwarded(Reason::ForwardedSlow);
        rig.drop_lease();
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.endpoint_sends(&reply(6, n, 40000, ACK)).dropped(Reason::NoLease);
        rig.client_sends(&tcp(40000, SYN)).dropped(Reason::NoLease);
        rig.client_sends(&tcp(40001, SYN)).dropped(Reason::NoLease);
        rig.client_sends(&tcp(40001, ACK)).dropped(Reason::NoLease);
        rig.client_sends(&request(17, 5000, 0)).dropped(Reason::NoLease);
        rig.client_sends(&request(17, 5001, 0)).dropped(Reason::NoLease);
        let mut unknown_port = tcp(40001, SYN);
        unknown_port.destination.1 = 81;
        rig.client_sends(&unknown_port).dropped(Reason::NoLease);
        assert_eq!(rig.flow_entries(), 4, "a standby makes no flow");
        rig.hold_lease();
        rig.client_sends(&tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn i4_without_a_lease_nothing_is_answered() {
    with_rig(|rig| {
        rig.drop_lease();
        let ask = arp([0xff; 6], 1, (CLIENT_MAC, CLIENT), ([0; 6], VIP));
        rig.send(rig.client_side, &ask).dropped(Reason::NoLease);
        let mut header = tcp(1, 0).header();
        header.protocol = 1;
        let ping = ipv4(CLIENT_SIDE_MAC, CLIENT_MAC, header, &icmp(8, 0, &[0, 1, 0, 1]));
        rig.send(rig.client_side, &ping).dropped(Reason::NoLease);
    });
}

#[test]
fn i4_a_lease_ends_by_itself() {
    with_rig(|rig| {
        rig.connect(40000);
        let end = rig.lease_until(300_000_000);
        let mut forwarded = 0;
        let mut dropped = 0;
        // Nobody writes the lease any more, as when the daemon is stopped.
        while now_ns() < end + 20_000_000 {
            let before = now_ns();
            let sent = rig.client_sends(&tcp(40000, ACK));
            if sent.action == REDIRECT {
                assert!(before < end, "forwarded {} ns after the lease's end", before - end);
                forwarded += 1;
            } else {
                assert!(now_ns() >= end, "dropped before the lease's end");
                sent.dropped(Reason::NoLease);
                dropped += 1;
            }
        }
        assert!(forwarded > 0 && dropped > 0, "{forwarded} forwarded, {dropped} dropped");
    });
}

#[test]
fn i4_a_lease_that_ends_implausibly_late_is_none() {
    with_rig(|rig| {
        rig.connect(40000);
        rig.lease_until(MAX_LEASE_NS as i64 + 200_000_000);
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.lease_until(i64::MAX / 2);
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.lease(LeaseValue {
            until_ns: u64::MAX,
            epoch: EPOCH,
            since_ns: 0,
            group: GROUP,
            flags: 0,
            frozen: 0,
        });
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
        rig.lease_until(MAX_LEASE_NS as i64 - 1_000_000);
        rig.client_sends(&tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.lease_until(-1);
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
    });
}

#[test]
fn i4_an_unbounded_lease_holds_until_it_is_bounded() {
    with_rig(|rig| {
        rig.connect(40000);
        rig.lease(LeaseValue {
            until_ns: 0,
            epoch: EPOCH,
            since_ns: 0,
            group: GROUP,
            flags: UNBOUNDED,
            frozen: 0,
        });
        rig.client_sends(&tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.lease(LeaseValue { until_ns: 0, epoch: EPOCH, since_ns: 0, group: GROUP, flags: 0, frozen: 0 });
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
    });
}

#[test]
fn under_a_stale_intent_no_flow_begins_and_every_flow_goes_on() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        rig.client_sends(&request(17, 5000, 0)).forwarded(Reason::ForwardedSlow);
        let over = rig.connect(40001);
        rig.client_sends(&tcp(40001, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&reply(6, over, 40001, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        let entries = rig.flow_entries();

        rig.freeze(true);
        rig.client_sends(&tcp(40002, SYN)).dropped(Reason::IntentStale);
        rig.client_sends(&request(17, 5001, 0)).dropped(Reason::IntentStale);
        assert_eq!(rig.flow_entries(), entries, "none was made");
        // What may not be replaced stays as it is, up to its last acknowledgement.
        let before = rig.flow(&tcp(40001, 0)).unwrap();
        rig.client_sends(&tcp(40001, SYN)).dropped(Reason::IntentStale);
        assert_eq!(rig.flow(&tcp(40001, 0)).unwrap().state, before.state);
        rig.client_sends(&tcp(40001, ACK)).forwarded(Reason::ForwardedFast);
        // A packet that would begin none anyway is dropped for the old reason.
        rig.client_sends(&tcp(40002, ACK)).dropped(Reason::Miss);

        let out = rig.client_sends(&tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(out.destination, endpoint(n));
        rig.endpoint_sends(&reply(6, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        rig.client_sends(&request(17, 5000, 0)).forwarded(Reason::ForwardedSlow);
        // Changes of state too, and a handshake's repetition on a live flow.
        rig.client_sends(&tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&tcp(40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        rig.endpoint_sends(&reply(6, n, 40000, ACK)).forwarded(Reason::ForwardedFast);

        rig.freeze(false);
        rig.client_sends(&tcp(40002, SYN)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&request(17, 5001, 0)).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
    });
}

#[test]
fn without_a_lease_a_stale_intent_is_not_the_reason() {
    with_rig(|rig| {
        rig.drop_lease();
        rig.freeze(true);
        rig.client_sends(&tcp(40000, SYN)).dropped(Reason::NoLease);
    });
}

#[test]
fn i3_a_flow_obeys_the_group_that_has_its_address_now() {
    with_rig(|rig| {
        rig.connect(40000);
        // The VIP moves to a group whose lease is held elsewhere: the flow keeps its index.
        let mut addresses = rig.array::<lockstep_abi::address::AddressValue>(lockstep_abi::map::ADDRESSES);
        let mut address = addresses.get(&11, 0).unwrap();
        address.lease_slot = SLOT + 1;
        addresses.set(11, address, 0).unwrap();
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::NoLease);
        // The index is given to another address.
        let mut addresses = rig.array::<lockstep_abi::address::AddressValue>(lockstep_abi::map::ADDRESSES);
        address.lease_slot = SLOT;
        address.address_be = be("192.0.2.11".parse().unwrap());
        addresses.set(11, address, 0).unwrap();
        rig.client_sends(&tcp(40000, ACK)).dropped(Reason::AddressGone);
        rig.endpoint_sends(&reply(6, 1, 40000, ACK)).dropped(Reason::AddressGone);
    });
}
