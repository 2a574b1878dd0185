//! Events that the kernel could not deliver.

use std::time::Duration;

use lockstep_loader::HopOptions;

use crate::bed::{Bed, ip, ip_batch, mac};

/// Room for a few events.
fn deaf() -> HopOptions {
    HopOptions { receive_buffer: 1, ..HopOptions::default() }
}

#[test]
fn lost_events_are_answered_by_reading_everything_again() {
    let mut bed = Bed::with(deaf(), || {
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        ip("neighbour add 10.0.0.12 lladdr 02:00:00:00:00:12 dev eth0");
    });
    let stamp = bed.sink.maps().stamp;
    let rereads = bed.watcher.stats().rereads;

    // Nobody listens while these happen; the last ones are those that are lost.
    ip_batch((0..500).map(|n| {
        format!("neighbour add 10.0.{}.{} lladdr 02:00:00:00:01:01 dev eth0", 1 + n / 250, n % 250)
    }));
    ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:99 dev eth0");
    ip("neighbour del 10.0.0.12 dev eth0");

    let mut reasons = Vec::new();
    bed.until("everything was read again", |_, report| {
        reasons.extend(report.reread.as_ref().map(|reread| reread.reason));
        !reasons.is_empty()
    });
    assert_eq!(reasons, ["the receive buffer was full"]);
    let maps = bed.sink.maps();
    assert_eq!(maps.hop(bed.eth0, "10.0.0.11").unwrap().destination_mac, mac(0x99));
    assert_eq!(maps.hop(bed.eth0, "10.0.0.12"), None);
    assert_eq!(maps.index.len(), 502);
    assert_ne!(maps.stamp, stamp, "routes may have changed as well");
    drop(maps);
    assert_eq!(bed.watcher.stats().rereads, rereads + 1);

    // And it hears again.
    bed.calm();
    ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:98 dev eth0");
    bed.until_mac("10.0.0.11", mac(0x98));
}

#[test]
fn a_flood_is_read_again_a_few_times_a_second_and_ends_right() {
    let mut bed = Bed::with(deaf(), || {});
    let started = std::time::Instant::now();
    let flood = std::thread::spawn(|| {
        for round in 0..20 {
            ip_batch((0..200).map(|n| {
                format!("neighbour replace 10.0.0.{} lladdr 02:00:00:00:{round:02x}:{n:02x} dev eth0", n + 10)
            }));
        }
    });
    while !flood.is_finished() {
        bed.watcher.step(Duration::from_millis(20)).unwrap();
    }
    flood.join().unwrap();
    let eth0 = bed.eth0;
    bed.until("all 200 as the last round left them", |maps, _| {
        (0..200u8).all(|n| {
            let hop = maps.hop(eth0, &format!("10.0.0.{}", u16::from(n) + 10));
            hop.is_some_and(|hop| hop.destination_mac == [2, 0, 0, 0, 19, n])
        })
    });
    let most = started.elapsed().as_millis() / 200 + 2;
    let rereads = u128::from(bed.watcher.stats().rereads);
    assert!(rereads >= 2 && rereads <= most, "{rereads} in {:?}", started.elapsed());
}
