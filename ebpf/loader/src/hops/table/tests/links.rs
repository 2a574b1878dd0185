use super::*;

#[test]
fn only_ethernet_links_that_are_up_with_carrier_have_hops() {
    type Change = fn(&mut Link);
    let cases: [(&str, Change); 3] = [
        ("down or without carrier", |link| link.running = false),
        ("not Ethernet", |link| link.ethernet = false),
        ("without a MAC", |link| link.mac = None),
    ];
    for (name, change) in cases {
        let mut rig = Rig::new();
        let mut changed = link(ETH0, "eth0");
        change(&mut changed);
        let writes = rig.tell([HopEvent::Link(changed)]);
        assert_eq!(rig.hop(ETH0, 11), None, "{name}");
        assert_eq!(raised(&writes), 1, "{name}: routes over it end");
        rig.later();

        rig.tell([HopEvent::Neighbour(neighbour(ETH0, 12))]);
        assert_eq!(rig.hop(ETH0, 12), None, "{name}, for a new neighbour");

        let writes = rig.tell([HopEvent::Link(link(ETH0, "eth0"))]);
        assert_eq!(rig.hop(ETH0, 11).unwrap().destination_mac, mac(11), "{name}, then as before");
        assert_eq!(rig.hop(ETH0, 12).unwrap().destination_mac, mac(12), "{name}, then as before");
        assert_eq!(raised(&writes), 1, "{name}, then as before");
    }
}

#[test]
fn a_neighbour_that_is_known_before_its_link_becomes_a_hop_with_it() {
    let mut rig = Rig::new();
    assert_eq!(rig.tell([HopEvent::Neighbour(neighbour(9, 12))]), []);
    rig.tell([HopEvent::Link(link(9, "eth9"))]);
    assert_eq!(rig.hop(9, 12).unwrap().destination_mac, mac(12));
}

#[test]
fn our_own_mac_or_mtu_changes_every_hop_of_the_link_in_place() {
    let mut rig = Rig::new();
    rig.tell([HopEvent::Neighbour(neighbour(ETH0, 12)), HopEvent::Neighbour(neighbour(ETH1, 13))]);
    let other = rig.hop(ETH1, 13).unwrap();
    let writes = rig.tell([HopEvent::Link(Link { mac: Some(mac(200)), mtu: 9000, ..link(ETH0, "eth0") })]);
    for host in [11, 12] {
        let hop = rig.hop(ETH0, host).unwrap();
        assert_eq!((hop.source_mac, hop.mtu, hop.destination_mac), (mac(200), 9000, mac(host)));
    }
    assert_eq!(rig.hop(ETH1, 13).unwrap(), other);
    assert_eq!(raised(&writes), 1);
    assert!(!writes.iter().any(|write| matches!(write, Write::SetIndex { .. } | Write::RemoveIndex { .. })));
}

#[test]
fn the_same_news_of_a_link_twice_is_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.tell([HopEvent::Link(link(ETH0, "eth0"))]), []);
}

#[test]
fn a_link_that_joins_a_vrf_raises_the_stamp() {
    let mut rig = Rig::new();
    let writes = rig.tell([HopEvent::Link(Link { master: 40, ..link(ETH0, "eth0") })]);
    assert_eq!(writes, [Write::RaiseStamp { stamp: rig.kernel.stamp }]);
    assert!(rig.hop(ETH0, 11).is_some());
}

#[test]
fn a_link_that_goes_takes_its_keys_and_returns_with_other_indexes() {
    let mut rig = Rig::new();
    let writes = rig.tell([HopEvent::LinkGone(ETH0)]);
    assert!(matches!(writes[0], Write::SetHop { index: 1, value } if value.flags == 0));
    assert_eq!(writes[1], Write::RemoveIndex { key: at(ETH0, 11) });
    assert_eq!(writes[2..], [Write::RaiseStamp { stamp: rig.kernel.stamp }, Write::WaitGrace]);
    assert_eq!(rig.table.take_lost()[0].interface, "eth0");

    // Its neighbours went with it: the link alone brings none back.
    rig.tell([HopEvent::Link(Link { mac: Some(mac(201)), ..link(ETH0, "eth0") })]);
    assert!(rig.kernel.index.is_empty());
    rig.tell([HopEvent::Neighbour(neighbour(ETH0, 11))]);
    assert_eq!(rig.hop(ETH0, 11).unwrap().source_mac, mac(201));
}

#[test]
fn a_link_that_goes_and_returns_before_the_stamp_may_be_raised_gets_an_index_nobody_names() {
    let mut rig = Rig::sized(2);
    rig.tell([HopEvent::Link(link(ETH0, "eth0")), HopEvent::Neighbour(neighbour(ETH0, 11))]);
    // The only index there is. The link's own news raised the stamp just now.
    assert_eq!(rig.kernel.index[&at(ETH0, 11)], 1);
    let back = [
        HopEvent::LinkGone(ETH0),
        HopEvent::Link(link(ETH0, "eth0")),
        HopEvent::Neighbour(neighbour(ETH0, 12)),
    ];
    let writes = rig.tell(back);
    assert_eq!(raised(&writes), 0);
    assert_eq!((rig.hop(ETH0, 12), rig.table.counts().left_out), (None, 1));
    rig.later();
    assert_eq!(rig.kernel.index[&at(ETH0, 12)], 1);
    let counts = rig.table.counts();
    assert_eq!((counts.left_out, counts.full), (0, 0), "it only waited for a stamp");
}

#[test]
fn a_number_that_another_device_takes_over_sends_with_that_ones_mac() {
    let mut rig = Rig::new();
    let other = Link { mac: Some(mac(202)), mtu: 1400, ..link(ETH0, "dmz") };
    rig.tell([HopEvent::LinkGone(ETH0), HopEvent::Link(other)]);
    assert_eq!(rig.hop(ETH0, 11), None);
    rig.tell([HopEvent::Neighbour(neighbour(ETH0, 11))]);
    let hop = rig.hop(ETH0, 11).unwrap();
    assert_eq!((hop.source_mac, hop.mtu, hop.flags), (mac(202), 1400, USABLE), "dmz has no XDP program");
}

#[test]
fn a_rename_moves_the_xdp_flag_and_raises_no_stamp() {
    let mut rig = Rig::new();
    assert_eq!(rig.hop(ETH0, 11).unwrap().flags, USABLE | XDP);
    let writes = rig.tell([HopEvent::Link(link(ETH0, "outside"))]);
    assert_eq!(rig.hop(ETH0, 11).unwrap().flags, USABLE);
    assert_eq!(writes.len(), 1);
    rig.tell([HopEvent::Link(link(ETH0, "eth0"))]);
    assert_eq!(rig.hop(ETH0, 11).unwrap().flags, USABLE | XDP);
}

#[test]
fn xdp_may_redirect_only_to_drivers_that_take_frames_and_have_our_program() {
    for (kind, name, expected) in [
        (None, "eth0", true),
        (Some("veth"), "eth0", true),
        (Some("tun"), "eth0", true),
        (None, "eth1", false),
        (Some("veth"), "eth1", false),
        (Some("vlan"), "eth0", false),
        (Some("bond"), "eth0", false),
        (Some("bridge"), "eth0", false),
        (Some("dummy"), "eth0", false),
        (Some("macvlan"), "eth0", false),
        (Some("team"), "eth0", false),
        (Some("not yet invented"), "eth0", false),
    ] {
        let mut rig = Rig::new();
        let kind = kind.map(str::to_owned);
        rig.tell([
            HopEvent::LinkGone(ETH0),
            HopEvent::LinkGone(ETH1),
            HopEvent::Link(Link { kind: kind.clone(), ..link(8, name) }),
            HopEvent::Neighbour(neighbour(8, 20)),
        ]);
        rig.later();
        let flags = rig.hop(8, 20).unwrap().flags;
        assert_eq!(flags, if expected { USABLE | XDP } else { USABLE }, "{kind:?} named {name}");
    }
}

/// The routing table names the VLAN device or the bond; what is below it has hops of its own.
#[test]
fn a_vlan_device_and_a_bond_send_with_their_own_mac_and_mtu() {
    for kind in ["vlan", "bond"] {
        let mut rig = Rig::new();
        let upper = Link { kind: Some(kind.into()), mac: Some(mac(210)), mtu: 1496, ..link(8, "upper0") };
        rig.tell([HopEvent::Link(upper.clone()), HopEvent::Neighbour(neighbour(8, 11))]);
        let hop = rig.hop(8, 11).unwrap();
        assert_eq!((hop.ifindex, hop.source_mac, hop.mtu, hop.flags), (8, mac(210), 1496, USABLE), "{kind}");
        assert_eq!(rig.hop(ETH0, 11).unwrap().source_mac, OWN, "{kind}: the link below");

        rig.tell([HopEvent::Link(Link { running: false, ..upper })]);
        assert_eq!(rig.hop(8, 11), None, "{kind}: every link below lost its carrier");
    }
}
