//! What must hold of one object by itself, wherever it came from: a manifest, or a command of the log.
//! What must hold between objects is checked by `apply`.

mod health;
mod service;
mod snat;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::intent::{GroupSpec, NodeSpec};
use crate::limits::{MAX_INTERFACE_NAME, MAX_INTERFACES, MAX_NAME, MAX_NODES, MAX_OWN_ADDRESSES};

pub use service::service;
pub use snat::snat_rule;

/// A value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {value}: allowed {allowed}")]
pub struct Problem {
    /// Where, within the object's document, e.g. `spec.endpoints[2].weight`.
    pub path: String,
    /// The value.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Problem {
    pub(crate) fn new(
        path: impl Into<String>,
        value: impl std::fmt::Display,
        allowed: impl Into<String>,
    ) -> Self {
        Problem { path: path.into(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// Everything wrong with a group by itself.
pub fn group(spec: &GroupSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    name("name", &spec.name, &mut problems);
    count("spec.addresses", spec.addresses.len(), 0, MAX_OWN_ADDRESSES, &mut problems);
    for (i, address) in spec.addresses.iter().enumerate() {
        self::address(&format!("spec.addresses[{i}]"), *address, &mut problems);
    }
    unique("spec.addresses", &spec.addresses, &mut problems);

    count("spec.interfaces", spec.interfaces.len(), 0, MAX_INTERFACES, &mut problems);
    for (i, interface) in spec.interfaces.iter().enumerate() {
        let fits = (1..=MAX_INTERFACE_NAME).contains(&interface.len());
        if !fits || interface.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
            let allowed = format!("an interface name of 1-{MAX_INTERFACE_NAME} characters");
            problems.push(Problem::new(format!("spec.interfaces[{i}]"), interface, allowed));
        }
    }
    unique("spec.interfaces", &spec.interfaces, &mut problems);

    count("spec.nodes", spec.nodes.len(), 0, MAX_NODES, &mut problems);
    unique("spec.nodes", &spec.nodes, &mut problems);
    let most = MAX_NODES - 1;
    if spec.standbys == 0 || usize::from(spec.standbys) > most {
        problems.push(Problem::new("spec.standbys", spec.standbys, format!("1-{most}")));
    }
    if spec.failback && spec.nodes.is_empty() {
        let allowed =
            "false, as spec.nodes names none: true goes back to the first of those that can serve the group";
        problems.push(Problem::new("spec.failback", true, allowed));
    }
    problems
}

/// Everything wrong with a node by itself.
pub fn node(spec: &NodeSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    name("name", &spec.name, &mut problems);
    for (path, address) in [("cluster_address", spec.cluster_address), ("lease_address", spec.lease_address)]
    {
        if address.port() == 0 || address.ip().is_unspecified() {
            problems.push(Problem::new(path, address, "an address and port that other nodes can reach"));
        }
    }
    problems
}

fn name(path: &str, value: &str, problems: &mut Vec<Problem>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty() || value.len() > MAX_NAME || !value.chars().all(plain) {
        let allowed = format!("1-{MAX_NAME} characters of a-z, 0-9 and -");
        problems.push(Problem::new(path, format!("{value:?}"), allowed));
    }
}

fn address(path: &str, value: IpAddr, problems: &mut Vec<Problem>) {
    let usable = match value {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast())
        }
        // A link-local address means something else on every link, and a mapped one is an IPv4 address.
        IpAddr::V6(v6) => {
            let special = v6.is_unspecified() || v6.is_loopback() || v6.is_multicast();
            !(special || v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some())
        }
    };
    if !usable {
        let allowed = match value {
            IpAddr::V4(_) => "a unicast IPv4 address beyond the host",
            IpAddr::V6(_) => "a unicast IPv6 address beyond the link, and no IPv4-mapped one",
        };
        problems.push(Problem::new(path, value, allowed));
    }
}

fn count(path: &str, got: usize, least: usize, most: usize, problems: &mut Vec<Problem>) {
    if !(least..=most).contains(&got) {
        problems.push(Problem::new(path, format!("{got} elements"), format!("{least}-{most} elements")));
    }
}

fn unique<T: Ord + std::fmt::Display>(path: &str, values: &[T], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        if !seen.insert(value) {
            problems.push(Problem::new(format!("{path}[{i}]"), value, "each value once"));
        }
    }
}
