//! Starting over what another process left, failing writes, and the end.

use std::time::{Duration, Instant};

use lockstep_loader::{HopOptions, HopWatcher};

use crate::bed::{Bed, ip, key, mac};

#[test]
fn i12_a_new_process_goes_on_with_the_indexes_of_the_last() {
    let mut bed = Bed::new();
    for host in [11, 12, 13] {
        ip(&format!("neighbour add 10.0.0.{host} lladdr 02:00:00:00:00:{host} dev eth0"));
    }
    bed.until_mac("10.0.0.13", mac(0x13));
    let (sink, eth0) = (bed.sink.clone(), bed.eth0);
    let before = sink.maps().index.clone();
    let stamp = sink.maps().stamp;
    // Killed: nothing is tidied up.
    drop(bed);

    ip("neighbour replace 10.0.0.11 lladdr 02:00:00:00:00:99 dev eth0");
    ip("neighbour del 10.0.0.12 dev eth0");
    let _watcher = HopWatcher::open(sink.clone(), HopOptions::default()).unwrap();
    let maps = sink.maps();
    assert_eq!(maps.index, before);
    assert_ne!(maps.stamp, stamp, "routes may have changed meanwhile");
    assert_eq!(maps.hop(eth0, "10.0.0.11").unwrap().destination_mac, mac(0x99));
    assert_eq!(maps.hop(eth0, "10.0.0.12"), None);
    assert_eq!(maps.hop(eth0, "10.0.0.13").unwrap().destination_mac, mac(0x13));
}

#[test]
fn a_write_that_failed_is_made_again_before_anything_else() {
    let mut bed = Bed::new();
    bed.sink.maps().failures = 2;
    ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
    let mut errors = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while bed.hop("10.0.0.11").is_none() {
        assert!(Instant::now() < deadline);
        errors += usize::from(bed.watcher.step(Duration::from_millis(50)).is_err());
    }
    assert_eq!(errors, 2);
}

#[test]
fn a_stop_ends_a_step_that_waits() {
    let bed = Bed::new();
    let mut watcher = bed.watcher;
    let stopper = watcher.stopper();
    assert!(!stopper.is_stopped());
    let started = Instant::now();
    let from_elsewhere = stopper.clone();
    let stop = std::thread::spawn(move || from_elsewhere.stop().unwrap());
    while !stopper.is_stopped() {
        watcher.step(Duration::from_secs(30)).unwrap();
    }
    stop.join().unwrap();
    watcher.step(Duration::from_secs(30)).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "nor does the step after it wait");
}

#[test]
fn nobody_believes_a_table_that_was_closed() {
    let mut bed = Bed::new();
    ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
    bed.until_mac("10.0.0.11", mac(0x11));
    let (sink, eth0) = (bed.sink, bed.eth0);
    bed.watcher.close().unwrap();
    assert_eq!(sink.maps().hop(eth0, "10.0.0.11"), None);
    assert!(sink.maps().index.contains_key(&key(eth0, "10.0.0.11")), "the next process goes on with it");
}
