use super::*;

#[test]
fn a_neighbour_becomes_a_hop_before_its_key_is_written() {
    let mut rig = Rig::new();
    let writes = rig.tell([HopEvent::Neighbour(neighbour(ETH0, 12))]);
    let value = HopValue {
        ifindex: ETH0,
        mtu: 1500,
        destination_mac: mac(12),
        source_mac: OWN,
        flags: USABLE | XDP,
        pad: 0,
    };
    assert_eq!(
        writes,
        [Write::SetHop { index: 2, value }, Write::SetIndex { key: at(ETH0, 12), index: 2 }],
        "no flow can have asked for it before: no stamp"
    );
}

#[test]
fn only_states_in_which_the_kernel_would_send_make_a_hop() {
    for (state, usable) in [
        (0x00, false), // NONE
        (0x01, false), // INCOMPLETE
        (0x02, true),  // REACHABLE
        (0x04, true),  // STALE
        (0x08, true),  // DELAY
        (0x10, true),  // PROBE
        (0x20, false), // FAILED
        (0x40, false), // NOARP
        (0x80, true),  // PERMANENT
    ] {
        let mut rig = Rig::new();
        let found = Neighbour { state, ..neighbour(ETH0, 12) };
        rig.tell([HopEvent::Neighbour(found.clone())]);
        assert_eq!(rig.hop(ETH0, 12).is_some(), usable, "state {state:#x}, new");

        rig.tell([HopEvent::Neighbour(neighbour(ETH0, 12)), HopEvent::Neighbour(found)]);
        assert_eq!(rig.hop(ETH0, 12).is_some(), usable, "state {state:#x}, before it was reachable");

        let addressless = Neighbour { state, mac: None, ..neighbour(ETH0, 12) };
        rig.tell([HopEvent::Neighbour(addressless)]);
        assert_eq!(rig.hop(ETH0, 12), None, "state {state:#x}, without a MAC");
    }
}

#[test]
fn a_change_of_state_alone_writes_nothing() {
    let mut rig = Rig::new();
    for state in [0x04, 0x08, 0x10, 0x02] {
        let writes = rig.tell([HopEvent::Neighbour(Neighbour { state, ..neighbour(ETH0, 11) })]);
        assert_eq!(writes, [], "state {state:#x}");
    }
}

#[test]
fn a_new_mac_is_written_in_place() {
    let mut rig = Rig::new();
    let before = rig.hop(ETH0, 11).unwrap();
    let moved = Neighbour { mac: Some(mac(99)), ..neighbour(ETH0, 11) };
    let writes = rig.tell([HopEvent::Neighbour(moved)]);
    let value = HopValue { destination_mac: mac(99), ..before };
    assert_eq!(writes, [Write::SetHop { index: 1, value }], "in place, without a stamp");
}

#[test]
fn a_neighbour_that_goes_is_unusable_at_once_and_keeps_its_index() {
    let failed = HopEvent::Neighbour(Neighbour { state: 0x20, mac: None, ..neighbour(ETH0, 11) });
    for (name, event) in [("failed", failed), ("deleted", HopEvent::NeighbourGone(at(ETH0, 11)))] {
        let mut rig = Rig::new();
        let before = rig.hop(ETH0, 11).unwrap();
        let writes = rig.tell([event]);
        let value = HopValue { flags: 0, ..before };
        assert_eq!(writes, [Write::SetHop { index: 1, value }], "{name}");
        let lost = LostHop { interface: "eth0".into(), address: IpAddr::from([10, 0, 0, 11]) };
        assert_eq!(rig.table.take_lost(), [lost], "{name}");
        let counts = rig.table.counts();
        assert_eq!((counts.hops, counts.idle, counts.lost), (0, 1, 1), "{name}");

        let writes = rig.tell([HopEvent::Neighbour(neighbour(ETH0, 11))]);
        assert_eq!(writes, [Write::SetHop { index: 1, value: before }], "{name}, then back");
        assert_eq!(rig.table.counts().idle, 0);
    }
}

#[test]
fn what_never_was_a_hop_is_nothing_when_it_goes() {
    let mut rig = Rig::new();
    let incomplete = Neighbour { state: 0x01, mac: None, ..neighbour(ETH0, 50) };
    let writes = rig.tell([HopEvent::Neighbour(incomplete), HopEvent::NeighbourGone(at(ETH0, 50))]);
    assert_eq!(writes, []);
    assert_eq!(rig.table.counts().lost, 0);
}

#[test]
fn the_same_address_on_two_interfaces_or_of_two_families_is_two_hops() {
    let mut rig = Rig::new();
    let six =
        Neighbour { key: key(ETH0, "fe80::11".parse().unwrap()), mac: Some(mac(66)), ..neighbour(ETH0, 0) };
    let other = Neighbour { mac: Some(mac(77)), ..neighbour(ETH1, 11) };
    rig.tell([HopEvent::Neighbour(six.clone()), HopEvent::Neighbour(other)]);
    assert_eq!(rig.hop(ETH0, 11).unwrap().destination_mac, mac(11));
    assert_eq!(rig.hop(ETH1, 11).unwrap().destination_mac, mac(77));
    assert_eq!(rig.kernel.hop(&six.key).unwrap().destination_mac, mac(66));
}

#[test]
fn only_neighbours_that_nobody_else_keeps_are_refreshed() {
    let mut rig = Rig::new();
    rig.tell([HopEvent::Neighbour(permanent(ETH0, 12)), HopEvent::Neighbour(neighbour(ETH1, 13))]);
    let refreshed: Vec<HopKey> = rig.table.refreshable().collect();
    assert_eq!(refreshed, [at(ETH0, 11), at(ETH1, 13)]);

    rig.tell([HopEvent::Neighbour(permanent(ETH0, 11)), HopEvent::NeighbourGone(at(ETH1, 13))]);
    assert_eq!(rig.table.refreshable().count(), 0);
    assert!(!rig.table.wants_refresh(&at(ETH0, 11)));
}
