use lockstep_abi::hop::HopValue;
use lockstep_loader::{HopOptions, Write};

use crate::bed::{Bed, index, ip, key, mac, sysctl};

#[test]
fn neighbours_that_were_there_before_are_hops_from_the_start() {
    let bed = Bed::with(HopOptions::default(), || {
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        ip("neighbour add 10.0.0.12 lladdr 02:00:00:00:00:12 dev eth0 nud stale");
        ip("neighbour add 10.0.0.13 lladdr 02:00:00:00:00:13 dev eth0 nud noarp");
    });
    let hop = bed.hop("10.0.0.11").unwrap();
    assert_eq!((hop.ifindex, hop.mtu, hop.destination_mac), (index("eth0"), 1500, mac(0x11)));
    assert_eq!(bed.hop("10.0.0.12").unwrap().destination_mac, mac(0x12));
    assert_eq!(bed.hop("10.0.0.13"), None);
    assert!(bed.sink.maps().stamp > 0);
}

#[test]
fn a_new_mac_is_written_in_place_and_nothing_else() {
    let mut bed = Bed::with(HopOptions::default(), || {
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
    });
    let before = bed.hop("10.0.0.11").unwrap();
    ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:99 dev eth0");
    bed.until_mac("10.0.0.11", mac(0x99));
    let value = HopValue { destination_mac: mac(0x99), ..before };
    let index = bed.sink.maps().index[&key(bed.eth0, "10.0.0.11")];
    assert_eq!(bed.writes(), [Write::SetHop { index, value }]);
}

#[test]
fn a_neighbour_that_goes_or_fails_is_no_hop_until_it_is_back() {
    let mut bed = Bed::new();
    for away in [
        "neighbour del 10.0.0.11 dev eth0",
        "neighbour change 10.0.0.11 dev eth0 nud failed",
        "neighbour flush dev eth0",
    ] {
        ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0 nud reachable");
        bed.until_mac("10.0.0.11", mac(0x11));
        let before = bed.sink.maps().index.clone();
        ip(away);
        let mut lost = Vec::new();
        let eth0 = bed.eth0;
        bed.until(away, |maps, report| {
            lost.extend(report.lost.clone());
            maps.hop(eth0, "10.0.0.11").is_none()
        });
        // The report of the step that lost it.
        bed.until("the loss is reported", |_, report| {
            lost.extend(report.lost.clone());
            !lost.is_empty()
        });
        assert_eq!(lost[0].interface, "eth0");
        assert_eq!(lost[0].address.to_string(), "10.0.0.11");
        assert_eq!(bed.sink.maps().index, before, "{away}: it keeps its index");
    }
}

#[test]
fn a_neighbour_of_ipv6_is_a_hop_as_well() {
    let mut bed = Bed::with(HopOptions::default(), || {
        sysctl("ipv6/conf/eth0/disable_ipv6", "0");
    });
    ip("-6 neighbour add fe80::11 lladdr 02:00:00:00:00:16 dev eth0");
    bed.until_mac("fe80::11", mac(0x16));
}

#[test]
fn a_proxy_entry_is_no_hop() {
    let mut bed = Bed::new();
    ip("neighbour add proxy 10.0.0.40 dev eth0");
    ip("neighbour add 10.0.0.41 lladdr 02:00:00:00:00:41 dev eth0");
    bed.until_mac("10.0.0.41", mac(0x41));
    assert_eq!(bed.sink.maps().index.len(), 1);
}
