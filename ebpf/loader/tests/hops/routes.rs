use crate::bed::{Bed, ip, sysctl};

#[test]
fn whatever_routing_depends_on_raises_the_stamp() {
    let mut bed = Bed::new();
    for arguments in [
        "route add 198.51.100.0/24 via 10.0.0.11",
        "route replace 198.51.100.0/24 via 10.0.0.12",
        "route replace 198.51.100.0/24 nexthop via 10.0.0.11 nexthop via 10.0.0.12",
        "route replace 198.51.100.0/24 nexthop via 10.0.0.11 nexthop via 10.0.0.13",
        "route del 198.51.100.0/24",
        "address add 10.0.1.1/24 dev eth0",
        "address del 10.0.1.1/24 dev eth0",
        "rule add from 10.0.0.0/8 lookup 100 priority 100",
        "rule del priority 100",
        "link set eth0 mtu 1400",
    ] {
        bed.raises(arguments);
    }
}

#[test]
fn ipv6_routes_and_rules_raise_the_stamp() {
    let mut bed = Bed::with(Default::default(), || {
        sysctl("ipv6/conf/eth0/accept_dad", "0");
        sysctl("ipv6/conf/eth0/router_solicitations", "0");
        sysctl("ipv6/conf/eth0/disable_ipv6", "0");
        ip("address add 2001:db8::1/64 dev eth0 nodad");
    });
    for arguments in [
        "-6 route add 2001:db8:1::/64 via 2001:db8::11 dev eth0",
        "-6 route del 2001:db8:1::/64",
        "-6 rule add from 2001:db8::/32 lookup 100 priority 100",
        "-6 address add 2001:db8::2/64 dev eth0 nodad",
    ] {
        bed.raises(arguments);
    }
}

/// A next hop object is changed without a word about the routes that use it.
#[test]
fn a_changed_nexthop_object_raises_the_stamp() {
    let mut bed = Bed::new();
    bed.raises("nexthop add id 7 via 10.0.0.11 dev eth0");
    bed.raises("route add 198.51.100.0/24 nhid 7");
    bed.raises("nexthop replace id 7 via 10.0.0.12 dev eth0");
}

#[test]
fn forwarding_that_is_switched_off_raises_the_stamp() {
    let mut bed = Bed::new();
    for value in ["1", "0"] {
        let stamp = bed.sink.maps().stamp;
        sysctl("ipv4/conf/eth0/forwarding", value);
        bed.until("a new stamp", |maps, _| maps.stamp != stamp);
        bed.calm();
    }
}

/// A full table of a routing daemon is one stamp every 100 ms, not one for each route.
#[test]
fn many_routes_raise_few_stamps() {
    let mut bed = Bed::new();
    let started = std::time::Instant::now();
    crate::bed::ip_batch(
        (0..2000).map(|n| format!("route add 198.18.{}.{}/32 via 10.0.0.11", n / 250, n % 250)),
    );
    bed.calm();
    let most = started.elapsed().as_millis() / 100 + 1;
    let raises = bed.watcher.stats().table.raises;
    assert!(raises >= 2 && u128::from(raises) <= most, "{raises} stamps in {:?}", started.elapsed());
}
