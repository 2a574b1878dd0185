//! The namespace: two links, addresses of both families, and hosts that need not be asked for their MACs.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::case::{Family, Side};
use crate::frame::Mac;

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Many at once.
fn ip_batch(lines: &[String]) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ip -batch: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub(super) fn set_up() {
    let mut lines = vec!["link set lo up".to_owned()];
    for side in [Side::Clients, Side::Endpoints] {
        let (link, mac) = (side.link(), text(side.own_mac()));
        lines.push(format!("link add {link}0 address {mac} type veth peer name {link}1"));
        lines.push(format!("link set {link}0 up"));
        lines.push(format!("link set {link}1 up"));
        for family in [Family::V4, Family::V6] {
            // Without the wait for somebody else who has the same.
            let nodad = if family == Family::V6 { "nodad" } else { "" };
            let (address, bits) = (family.node(side), family.network_bits());
            lines.push(format!("addr add {address}/{bits} dev {link}0 {nodad}"));
        }
    }
    for family in [Family::V4, Family::V6] {
        for (side, host) in family.hosts() {
            let (address, mac, link) = (family.host(side, host), text(side.mac(host)), side.link());
            lines.push(format!("neigh add {address} lladdr {mac} dev {link}0 nud permanent"));
        }
    }
    ip_batch(&lines);
    for side in [Side::Clients, Side::Endpoints] {
        forward(Family::V4, side, true);
    }
    // For all: the kernel asks each interface, and answers itself only where it is no router.
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    wait_until_local();
}

/// The kernel makes an IPv6 address its own, for routing, some time after the address is there.
fn wait_until_local() {
    const RTF_LOCAL: u32 = 0x8000_0000;
    let deadline = Instant::now() + Duration::from_secs(10);
    for side in [Side::Clients, Side::Endpoints] {
        let IpAddr::V6(address) = Family::V6.node(side) else { unreachable!("an IPv6 address") };
        let destination = format!("{:032x}", address.to_bits());
        let is_local = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[..2] == [destination.as_str(), "80"]
                && u32::from_str_radix(fields[8], 16).unwrap() & RTF_LOCAL != 0
        };
        while !std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap().lines().any(is_local) {
            assert!(Instant::now() < deadline, "{address} has no local route");
            std::thread::yield_now();
        }
    }
}

/// Switches forwarding of what comes in at a side.
pub(crate) fn forward(family: Family, side: Side, on: bool) {
    let path = format!("/proc/sys/net/ipv{}/conf/{}0/forwarding", family.number(), side.link());
    std::fs::write(path, if on { "1" } else { "0" }).unwrap();
}
