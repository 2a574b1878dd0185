//! Neighbours that stopped answering, or moved, are noticed although no packet passes the kernel's own code.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockstep_loader::HopOptions;

use crate::bed::{Bed, ip, mac, run, sysctl};

/// Another namespace, which ends with this.
pub(crate) struct Other(Child);

impl Other {
    pub(crate) fn new() -> Self {
        let child =
            Command::new("unshare").args(["-n", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let other = Self(child);
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        // It has left ours when it has one of its own.
        while std::fs::read_link(format!("/proc/{}/ns/net", other.pid())).unwrap() == ours {
            assert!(Instant::now() < deadline, "unshare does not start");
            std::thread::yield_now();
        }
        other
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    fn ip(&self, arguments: &str) {
        run("nsenter", &format!("-t {} -n ip {arguments}", self.pid()));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

/// `eth0` leads to another namespace with 10.0.0.11 at mac(0x11). The kernel probes as fast as it can be told to.
fn bed(every: Duration) -> (Bed, Other) {
    let mut other = None;
    let bed = Bed::with(HopOptions { refresh_every: every, ..HopOptions::default() }, || {
        let there = Other::new();
        ip(&format!("link set peer0 netns {}", there.pid()));
        there.ip("link set peer0 address 02:00:00:00:00:11");
        there.ip("address add 10.0.0.11/24 dev peer0");
        there.ip("link set peer0 up");
        other = Some(there);
        sysctl("ipv4/neigh/eth0/base_reachable_time_ms", "500");
        sysctl("ipv4/neigh/eth0/delay_first_probe_time", "1");
        sysctl("ipv4/neigh/eth0/retrans_time_ms", "100");
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0 nud stale");
        ip("neighbour add 10.0.0.12 lladdr 02:00:00:00:00:12 dev eth0 nud permanent");
        ip("neighbour add 10.0.0.13 lladdr 02:00:00:00:00:13 dev eth0 nud stale extern_learn");
    });
    (bed, other.unwrap())
}

fn state(address: &str) -> String {
    ip(&format!("neighbour show {address} dev eth0"))
}

#[test]
fn a_stale_neighbour_is_probed_and_the_entries_of_others_are_left_alone() {
    let (mut bed, _other) = bed(Duration::from_millis(200));
    bed.until("the neighbour answered", |_, _| state("10.0.0.11").contains("REACHABLE"));
    bed.until("several cycles", |_, report| report.stats.refreshes >= 10);
    assert_eq!(bed.watcher.stats().refresh_failures, 0);
    assert!(state("10.0.0.12").contains("PERMANENT"), "{}", state("10.0.0.12"));
    let learned = state("10.0.0.13");
    assert!(learned.contains("extern_learn") && learned.contains("STALE"), "{learned}");
    assert!(
        bed.hop("10.0.0.11").is_some() && bed.hop("10.0.0.12").is_some() && bed.hop("10.0.0.13").is_some()
    );
}

#[test]
fn a_neighbour_that_stopped_answering_is_lost() {
    let (mut bed, other) = bed(Duration::from_millis(200));
    bed.until("the neighbour answered", |_, _| state("10.0.0.11").contains("REACHABLE"));
    // The link stays up.
    other.ip("address del 10.0.0.11/24 dev peer0");
    bed.until_unusable("10.0.0.11");
    assert!(bed.hop("10.0.0.12").is_some());
}

#[test]
fn a_neighbour_that_moved_is_lost_and_found_when_the_kernel_resolves_it() {
    let (mut bed, other) = bed(Duration::from_millis(200));
    bed.until("the neighbour answered", |_, _| state("10.0.0.11").contains("REACHABLE"));
    other.ip("link set peer0 address 02:00:00:00:00:44");
    bed.until_unusable("10.0.0.11");
    // What the slow path does with the next packet: it has the kernel resolve.
    let udp = std::net::UdpSocket::bind("10.0.0.1:0").unwrap();
    udp.send_to(b"?", "10.0.0.11:9").unwrap();
    bed.until_mac("10.0.0.11", mac(0x44));
}
