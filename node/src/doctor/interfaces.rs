//! The interfaces: whether they are there, which hook they get, what else is attached to them, and what of their
//! settings disagrees with it.

use std::collections::BTreeMap;

use lockstep_loader::Hook;
use nix::ifaddrs::getifaddrs;

use super::links::Link;
use super::pins::Ours;
use super::{Findings, sysctl};
use crate::config::Dataplane;
use crate::dataplane::interface_config;

pub(super) fn check(
    dataplane: &Dataplane,
    links: &Result<BTreeMap<String, Link>, String>,
    ours: &Ours,
    findings: &mut Findings,
) {
    let links = match links {
        Ok(links) => links,
        Err(error) => return findings.fail("interfaces", format!("they cannot be read: {error}")),
    };
    for interface in dataplane.interfaces.iter().map(interface_config) {
        let subject = format!("interface {}", interface.name);
        let Some(link) = links.get(&interface.name) else {
            let there = sysfs_names().join(", ");
            findings.fail(subject, format!("does not exist; there are: {there}"));
            continue;
        };
        state(&subject, &interface.name, link, findings);
        let report = lockstep_loader::hook_for(&interface.name, interface.hook);
        findings.ok(&subject, format!("hook {} ({})", report.hook, report.why));
        others(&subject, &interface.name, report.hook, link, ours, findings);
        offloads(&subject, &interface.name, report.hook, link, findings);
        sysctls(&subject, &interface.name, findings);
    }
    match sysctl("net/ipv4/ip_forward").as_deref() {
        Some("1") => findings.ok("forwarding", "on; other interfaces forward past the programs, if this host routes between them"),
        _ => findings.ok("forwarding", "off; the daemon switches it on for its interfaces (IPv6: for all) once it has programmed its groups' addresses"),
    }
}

fn state(subject: &str, name: &str, link: &Link, findings: &mut Findings) {
    if !link.up {
        return findings.fail(subject, format!("is down; run `ip link set {name} up`"));
    }
    if !link.carrier {
        findings.warn(subject, "has no carrier: the node would be unfit for every group");
    }
    let addresses = addresses(name);
    match addresses.is_empty() {
        true => findings.warn(subject, "has no address: no group's address is in a connected prefix of it, so none is answered for there unless the group names the interface"),
        false => findings.ok(subject, format!("up, mtu {}, {}", link.mtu, addresses.join(", "))),
    }
}

/// Programs of others: some take packets before ours see them, one is in the way.
fn others(subject: &str, name: &str, hook: Hook, link: &Link, ours: &Ours, findings: &mut Findings) {
    let foreign: Vec<String> =
        link.xdp.iter().filter(|id| !ours.0.contains(id)).map(ToString::to_string).collect();
    if !foreign.is_empty() {
        let programs = foreign.join(", ");
        let look = format!(
            "look with `bpftool prog show id {}`, remove with `ip link set {name} xdp off`",
            foreign[0]
        );
        match hook {
            Hook::Tc | Hook::Auto => findings.warn(subject, format!("foreign program {programs} at XDP: what it drops or redirects never reaches this node's; {look}")),
            Hook::Xdp | Hook::XdpGeneric => findings.fail(subject, format!("foreign program {programs} at XDP is in the way of this node's; {look}")),
        }
    }
    match lockstep_loader::programs_at_tcx(name) {
        Ok(programs) => {
            for (position, program) in programs.iter().enumerate().filter(|(_, p)| !ours.0.contains(&p.id)) {
                let before = match programs.iter().position(|program| ours.0.contains(&program.id)) {
                    Some(own) if own < position => "behind this node's: it sees only what is passed on",
                    _ => "before this node's: what it drops or redirects never reaches them",
                };
                findings.warn(subject, format!("foreign program {} ({:?}) at tcx ingress, {before}; look with `bpftool net show dev {name}`", program.id, program.name));
            }
        }
        Err(error) => findings.warn(subject, format!("the programs at tcx cannot be listed: {error}")),
    }
    if !link.filters.is_empty() {
        findings.warn(subject, format!("tc ingress filters ({}) see only what this node's programs pass on; look with `tc filter show dev {name} ingress`", link.filters.join(", ")));
    }
}

fn offloads(subject: &str, name: &str, hook: Hook, link: &Link, findings: &mut Findings) {
    if hook != Hook::Xdp && hook != Hook::XdpGeneric {
        return;
    }
    for offload in lockstep_loader::offloads(name) {
        match offload {
            "lro" => findings.warn(subject, format!("lro is on: merged packets cannot be forwarded, and drivers refuse XDP with it; run `ethtool -K {name} lro off`")),
            "rxvlan" if !link.vlans.is_empty() => findings.warn(subject, format!("rxvlan is on: XDP sees the packets of {} without their tag, as if they came in on {name}; run `ethtool -K {name} rxvlan off`", link.vlans.join(", "))),
            _ => {}
        }
    }
}

fn sysctls(subject: &str, name: &str, findings: &mut Findings) {
    let of = |scope: &str, key: &str| sysctl(&format!("net/ipv4/conf/{scope}/{key}"));
    // The kernel takes the larger of the two.
    let strict = [of("all", "rp_filter"), of(name, "rp_filter")];
    let strict = strict.iter().flatten().max().is_some_and(|value| value == "1");
    if strict {
        findings.warn(subject, format!("rp_filter is strict: transit traffic of endpoints that comes in by another interface than it leaves by is dropped by the kernel; run `sysctl net.ipv4.conf.{name}.rp_filter=2`"));
    }
    let forwards6 = sysctl("net/ipv6/conf/all/forwarding").is_some_and(|value| value == "1");
    let accepts = sysctl(&format!("net/ipv6/conf/{name}/accept_ra")).is_some_and(|value| value == "1");
    if !forwards6 && accepts {
        findings.warn(subject, format!("accept_ra is 1: once the daemon switches IPv6 forwarding on, routes from router advertisements end; if there are any, run `sysctl net.ipv6.conf.{name}.accept_ra=2`"));
    }
}

fn addresses(name: &str) -> Vec<String> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let ip = |address: &nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| v4.ip().to_string());
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().to_string()))
    };
    all.filter(|entry| entry.interface_name == name).filter_map(|entry| ip(entry.address.as_ref()?)).collect()
}

fn sysfs_names() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
