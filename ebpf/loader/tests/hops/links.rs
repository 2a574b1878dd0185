use lockstep_abi::hop::{USABLE, XDP};
use lockstep_loader::HopOptions;

use crate::bed::{Bed, index, ip, key, mac};

/// `eth0` with a neighbour that the kernel keeps while the link is without carrier.
fn bed() -> Bed {
    Bed::with(HopOptions::default(), || {
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
    })
}

#[test]
fn a_link_that_is_down_or_without_carrier_has_no_hops() {
    let mut bed = bed();
    for (away, back) in
        [("link set peer0 down", "link set peer0 up"), ("link set eth0 down", "link set eth0 up")]
    {
        let stamp = bed.sink.maps().stamp;
        ip(away);
        bed.until_unusable("10.0.0.11");
        bed.until(away, |maps, _| maps.stamp != stamp);
        ip(back);
        // Taking it down removed the entry, if the administrator's own hand did.
        ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        bed.until_mac("10.0.0.11", mac(0x11));
    }
}

#[test]
fn our_own_mac_and_mtu_are_written_into_every_hop() {
    let mut bed = bed();
    let eth0 = bed.eth0;
    let stamp = bed.sink.maps().stamp;
    ip("link set eth0 mtu 1400");
    ip("link set eth0 address 02:00:00:00:00:aa");
    ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
    bed.until("the new MAC and MTU", |maps, _| {
        maps.hop(eth0, "10.0.0.11").is_some_and(|hop| hop.mtu == 1400 && hop.source_mac == mac(0xaa))
    });
    bed.until("a new stamp", |maps, _| maps.stamp != stamp);
}

#[test]
fn a_link_that_is_deleted_takes_its_hops_and_returns_with_new_ones() {
    let mut bed = bed();
    ip("link del eth0");
    bed.until("its keys are gone", |maps, _| maps.index.is_empty());
    assert!(bed.sink.maps().hops.values().all(|hop| hop.flags == 0));
    bed.calm();

    ip("link add eth0 type veth peer name peer0");
    ip("address add 10.0.0.1/24 dev eth0");
    ip("link set peer0 up");
    ip("link set eth0 up");
    ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:22 dev eth0");
    let eth0 = index("eth0");
    assert_ne!(eth0, bed.eth0);
    bed.until("the new hop", |maps, _| {
        maps.hop(eth0, "10.0.0.11").is_some_and(|hop| hop.destination_mac == mac(0x22))
    });
}

#[test]
fn a_number_that_another_device_takes_over_is_that_ones() {
    let mut bed = bed();
    let eth0 = bed.eth0;
    ip("link del eth0");
    ip(&format!("link add dmz index {eth0} address 02:00:00:00:00:bb mtu 1300 type veth peer name peer1"));
    ip("address add 10.0.0.1/24 dev dmz");
    ip("link set peer1 up");
    ip("link set dmz up");
    ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:33 dev dmz");
    bed.until("the hop on the other device", |maps, _| {
        maps.hop(eth0, "10.0.0.11")
            .is_some_and(|hop| (hop.destination_mac, hop.source_mac, hop.mtu) == (mac(0x33), mac(0xbb), 1300))
    });
}

#[test]
fn a_link_that_moves_to_another_namespace_is_gone() {
    let mut bed = bed();
    let other = crate::refresh::Other::new();
    ip(&format!("link set eth0 netns {}", other.pid()));
    let key = key(bed.eth0, "10.0.0.11");
    bed.until("its key is gone", |maps, _| !maps.index.contains_key(&key));
}

#[test]
fn an_interface_is_taken_for_what_it_is() {
    let mut bed = bed();
    // Its kind, and that it is Ethernet, as a real kernel spells them; `dummy` has no ARP.
    ip("link add bare0 type veth peer name bare1");
    ip("link set bare0 up");
    ip("link set bare1 up");
    ip("link set bare0 arp off");
    ip("neighbour add 10.9.0.1 lladdr 02:00:00:00:00:77 dev bare0");
    ip("neighbour add 10.0.0.12 lladdr 02:00:00:00:00:12 dev eth0");
    bed.until_mac("10.0.0.12", mac(0x12));
    bed.calm();
    assert_eq!(bed.sink.maps().hop(index("bare0"), "10.9.0.1"), None, "without ARP");
    ip("link set bare0 arp on");
    ip("neighbour replace 10.9.0.1 lladdr 02:00:00:00:00:77 dev bare0");
    let bare0 = index("bare0");
    bed.until("with ARP", |maps, _| maps.hop(bare0, "10.9.0.1").is_some());
}

/// The kernel tells of a port that leaves its bridge with the words of a link that is deleted.
#[test]
fn a_link_that_joins_and_leaves_a_bridge_keeps_its_hops() {
    let mut bed = bed();
    ip("link add br0 type bridge");
    ip("link set br0 up");
    bed.raises("link set eth0 master br0");
    bed.raises("link set eth0 nomaster");
    assert_eq!(bed.hop("10.0.0.11").unwrap().destination_mac, mac(0x11));
}

#[test]
fn only_some_kinds_of_devices_take_what_xdp_redirects() {
    let options =
        HopOptions { xdp: ["eth0", "br0", "mv0"].map(String::from).into(), ..HopOptions::default() };
    let mut bed = Bed::with(options, || {
        ip("link add mv0 link eth0 type macvlan");
        ip("link add br0 type bridge");
        ip("link add plain0 type veth peer name plain1");
        ip("link set plain0 master br0");
        for name in ["mv0", "plain1", "plain0", "br0"] {
            ip(&format!("link set {name} up"));
        }
    });
    for (name, flags) in
        [("eth0", USABLE | XDP), ("mv0", USABLE), ("br0", USABLE), ("plain0", USABLE), ("plain1", USABLE)]
    {
        ip(&format!("neighbour add 10.8.0.1 lladdr 02:00:00:00:00:81 dev {name}"));
        let ifindex = index(name);
        bed.until(name, |maps, _| maps.hop(ifindex, "10.8.0.1").is_some());
        assert_eq!(bed.sink.maps().hop(ifindex, "10.8.0.1").unwrap().flags, flags, "{name}");
    }
}
