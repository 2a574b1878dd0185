//! The next hops in the pinned maps. What is written when, is in `tests/hops`.

use std::time::{Duration, Instant};

use lockstep_abi::hop::{HopKey, HopValue, USABLE};
use lockstep_abi::map::{HOP_INDEX, HOP_STAMP, HOPS, MAX_HOPS};
use lockstep_loader::HopOptions;

use crate::bed::{Bed, ip};

fn array<V: aya::Pod>(bed: &Bed, name: &str, index: u32) -> V {
    let map = aya::maps::Array::<_, V>::try_from(aya::maps::Map::Array(bed.map(name))).unwrap();
    map.get(&index, 0).unwrap()
}

fn key(interface: &str, host: u8) -> HopKey {
    let ifindex = nix::net::if_::if_nametoindex(interface).unwrap();
    HopKey { ifindex, family: 4, address: [u32::from_ne_bytes([10, 0, 0, host]), 0, 0, 0] }
}

fn hop(bed: &Bed, host: u8) -> HopValue {
    let index = bed.hash::<HopKey, u32>(HOP_INDEX).get(&key("eth1", host), 0).unwrap();
    assert!(index > 0 && index < MAX_HOPS);
    array(bed, HOPS, index)
}

#[test]
fn i12_next_hops_are_in_the_maps_and_outlive_their_keeper() {
    let bed = Bed::new(1024);
    let dataplane = bed.open();
    assert_eq!(array::<u32>(&bed, HOP_STAMP, 0), 1, "nobody keeps the table yet");
    let mut watcher = dataplane.hop_watcher(HopOptions::default()).unwrap();
    let stamp: u32 = array(&bed, HOP_STAMP, 0);
    assert!(stamp > 0);
    for host in [11, 12, 13] {
        let hop = hop(&bed, host);
        assert_eq!(hop.destination_mac, [2, 0, 0, 0, 0, u8::from_str_radix(&host.to_string(), 16).unwrap()]);
        assert_eq!((hop.ifindex, hop.mtu, hop.flags), (key("eth1", 0).ifindex, 1500, USABLE));
    }

    ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:99 dev eth1");
    ip("neighbour del 10.0.0.12 dev eth1");
    let deadline = Instant::now() + Duration::from_secs(10);
    while hop(&bed, 11).destination_mac[5] != 0x99 || hop(&bed, 12).flags != 0 {
        assert!(Instant::now() < deadline);
        watcher.step(Duration::from_millis(50)).unwrap();
    }

    // Killed, and followed by another.
    let before = bed.entries_of_hops();
    drop(watcher);
    let watcher = dataplane.hop_watcher(HopOptions::default()).unwrap();
    assert_eq!(bed.entries_of_hops(), before);
    assert_eq!((hop(&bed, 11).flags, hop(&bed, 12).flags), (USABLE, 0));
    assert!(array::<u32>(&bed, HOP_STAMP, 0) > stamp);

    watcher.close().unwrap();
    assert_eq!((hop(&bed, 11).flags, hop(&bed, 13).flags), (0, 0), "nobody keeps the table");
    assert_eq!(bed.entries_of_hops(), before);
}

impl Bed {
    fn entries_of_hops(&self) -> Vec<(HopKey, u32)> {
        self.entries::<HopKey, u32>(HOP_INDEX).into_iter().collect()
    }
}
