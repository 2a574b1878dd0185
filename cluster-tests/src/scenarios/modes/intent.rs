//! What the cluster of the modes' test is told.

use std::net::IpAddr;

use crate::topology::dual::{ENDPOINTS6, FLOATING6, VIP6, client_side};
use crate::topology::{CLIENTS, ENDPOINTS, FLOATING, VIP};

/// Where the endpoints' servers listen.
pub(in crate::scenarios) const ENDPOINT_PORT: u16 = 9000;
/// Services that translate, by mode.
pub(in crate::scenarios) const NAT: u16 = 8001;
pub(in crate::scenarios) const FULLNAT: u16 = 8002;
pub(in crate::scenarios) const ONE_ARM: u16 = 8003;
pub(super) const HOST_ONE_ARM: u16 = 8004;
/// A service of a range, and a port in it that the servers have.
pub(super) const RANGE: &str = "8100-8199";
pub(super) const IN_RANGE: u16 = 8150;
/// A port of the wildcard service that the servers have.
pub(super) const WILD: u16 = 7777;
/// A service that one client may use.
pub(super) const SOURCES: u16 = 8005;
/// Two that take two connections, for one family each.
pub(super) const LIMITED: [u16; 2] = [8006, 8012];
pub(super) const CONNECTION_LIMIT: usize = 2;
/// Round robin with affinity.
pub(super) const AFFINITY: u16 = 8007;
pub(super) const LEAST: u16 = 8008;
/// Weighted round robin, 1 to 2 to 3.
pub(super) const WEIGHTED: u16 = 8009;
/// Nat over one endpoint, the first, which calls itself.
pub(super) const HAIRPIN: u16 = 8010;
/// The service that is changed under load.
pub(super) const CHANGING: u16 = 8011;
/// Two primaries and a backup, the third endpoint.
pub(super) const BACKUP: u16 = 8013;
/// Few new flows a second.
pub(super) const RATED: u16 = 8014;
pub(super) const NEW_PER_SECOND: u64 = 20;
/// Direct server return, by way to the endpoint; on VIPs that the endpoints hold.
pub(super) const DSR_L2: u16 = 8020;
pub(super) const DSR_IPIP: u16 = 8021;
pub(super) const DSR_GUE: u16 = 8022;
/// IPv4 inside, IPv6 outside.
pub(super) const DSR_OVER_IPV6: u16 = 8023;

/// SCTP to the endpoints' port, to the port it came to, and with another source.
pub(super) const SCTP_NAT: u16 = 8030;
pub(super) const SCTP_SAME_PORT: u16 = 8031;
pub(super) const SCTP_FULLNAT: u16 = 8032;

/// The VIP whose every port is a service.
pub(super) fn wild_vips() -> [IpAddr; 2] {
    [[192, 0, 2, 11].into(), client_side(0x11).into()]
}

/// The VIP of the echo service.
pub(super) fn echo_vips() -> [IpAddr; 2] {
    [[192, 0, 2, 12].into(), client_side(0x12).into()]
}

/// The VIPs that endpoints hold.
pub(super) fn direct_vips() -> [IpAddr; 2] {
    [[192, 0, 2, 13].into(), client_side(0x13).into()]
}

/// What endpoints' connections to the outside leave with.
pub(super) fn egress() -> [IpAddr; 2] {
    [[192, 0, 2, 20].into(), client_side(0x20).into()]
}

/// What stands for the third endpoint, both ways.
pub(super) fn static_addresses() -> [IpAddr; 2] {
    [[192, 0, 2, 21].into(), client_side(0x21).into()]
}

/// A client to which endpoints speak as themselves.
pub(super) fn exempt() -> IpAddr {
    CLIENTS[6].into()
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ")
}

/// One service in the manifest's words.
#[derive(Debug, Clone)]
pub(super) struct ServiceText {
    pub(super) name: &'static str,
    pub(super) vip: Vec<IpAddr>,
    pub(super) port: String,
    pub(super) protocol: &'static str,
    pub(super) mode: &'static str,
    pub(super) algorithm: &'static str,
    /// Lines of the spec that others do not have.
    pub(super) more: &'static str,
    /// 0: the client's.
    pub(super) endpoint_port: u16,
    /// One per endpoint; those without are left out.
    pub(super) weights: [Option<u16>; 3],
    pub(super) states: [&'static str; 3],
    pub(super) backups: [bool; 3],
    pub(super) only_ipv6: bool,
}

impl ServiceText {
    pub(super) fn new(name: &'static str, port: impl ToString, mode: &'static str) -> Self {
        ServiceText {
            name,
            vip: vec![VIP.into(), VIP6.into()],
            port: port.to_string(),
            protocol: "tcp, udp",
            mode,
            algorithm: "round-robin",
            more: "",
            endpoint_port: ENDPOINT_PORT,
            weights: [Some(100); 3],
            states: ["active"; 3],
            backups: [false; 3],
            only_ipv6: false,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "apiVersion: lockstep/v1\nkind: Service\nname: {}\nspec:\n  group: edge\n  vip: [{}]\n  port: {}\n  \
             protocol: [{}]\n  algorithm: {}\n  mode: {}\n  on_miss: drop\n",
            self.name,
            list(&self.vip),
            if self.port.parse::<u16>().is_ok() { self.port.clone() } else { format!("\"{}\"", self.port) },
            self.protocol,
            self.algorithm,
            self.mode
        );
        text += self.more;
        text += "  endpoints:\n";
        for (i, weight) in self.weights.iter().enumerate() {
            let Some(weight) = weight else { continue };
            for address in [IpAddr::from(ENDPOINTS[i]), IpAddr::from(ENDPOINTS6[i])] {
                if self.only_ipv6 && address.is_ipv4() {
                    continue;
                }
                let port = match self.endpoint_port {
                    0 => String::new(),
                    port => format!(", port: {port}"),
                };
                let backup = if self.backups[i] { ", backup: true" } else { "" };
                text += &format!(
                    "    - {{address: \"{address}\"{port}, weight: {weight}, state: {}{backup}}}\n",
                    self.states[i]
                );
            }
        }
        text
    }
}

fn limited(name: &'static str, port: u16) -> ServiceText {
    ServiceText {
        more: "  limits: {connections: 2}\n",
        weights: [Some(100), None, None],
        ..ServiceText::new(name, port, "nat")
    }
}

fn direct(name: &'static str, port: u16, mode: &'static str) -> ServiceText {
    ServiceText { vip: direct_vips().to_vec(), endpoint_port: 0, ..ServiceText::new(name, port, mode) }
}

/// With a backup, and its endpoints in these states.
pub(super) fn with_backup(states: [&'static str; 3]) -> ServiceText {
    ServiceText { states, backups: [false, false, true], ..ServiceText::new("backup", BACKUP, "nat") }
}

/// Before it is changed.
pub(super) fn changing() -> ServiceText {
    ServiceText { weights: [Some(100), Some(100), None], ..ServiceText::new("changing", CHANGING, "nat") }
}

/// Every port of addresses, which a service of one port of every address leaves no room for: that one is then of
/// its own VIPs.
pub(super) fn wildcard() -> String {
    let services = [
        ServiceText::new("host-one-arm", HOST_ONE_ARM, "host-one-arm"),
        ServiceText { endpoint_port: 0, vip: wild_vips().to_vec(), ..ServiceText::new("wild", "*", "nat") },
    ];
    services.map(|service| service.text()).join("---\n")
}

fn services() -> Vec<ServiceText> {
    vec![
        ServiceText::new("nat", NAT, "nat"),
        ServiceText::new("fullnat", FULLNAT, "fullnat"),
        ServiceText::new("one-arm", ONE_ARM, "one-arm"),
        ServiceText { vip: vec![], ..ServiceText::new("host-one-arm", HOST_ONE_ARM, "host-one-arm") },
        ServiceText { endpoint_port: 0, ..ServiceText::new("range", RANGE, "nat") },
        ServiceText {
            more: "  sources: [192.0.2.104/32, \"2001:db8:c::102/128\"]\n",
            ..ServiceText::new("sources", SOURCES, "nat")
        },
        with_backup(["active"; 3]),
        ServiceText { more: "  limits: {new_per_second: 20}\n", ..ServiceText::new("rated", RATED, "nat") },
        limited("limited4", LIMITED[0]),
        limited("limited6", LIMITED[1]),
        ServiceText {
            more: "  affinity: {by: source, timeout: 1h}\n",
            ..ServiceText::new("affinity", AFFINITY, "nat")
        },
        ServiceText { algorithm: "least-connections", ..ServiceText::new("least", LEAST, "nat") },
        ServiceText {
            algorithm: "weighted-round-robin",
            weights: [Some(1), Some(2), Some(3)],
            ..ServiceText::new("weighted", WEIGHTED, "nat")
        },
        ServiceText { weights: [Some(100), None, None], ..ServiceText::new("hairpin", HAIRPIN, "nat") },
        changing(),
        ServiceText { protocol: "sctp", ..ServiceText::new("sctp", SCTP_NAT, "nat") },
        ServiceText {
            protocol: "sctp",
            endpoint_port: 0,
            ..ServiceText::new("sctp-same-port", SCTP_SAME_PORT, "nat")
        },
        ServiceText { protocol: "sctp", ..ServiceText::new("sctp-fullnat", SCTP_FULLNAT, "fullnat") },
        direct("dsr-l2", DSR_L2, "dsr-l2"),
        direct("dsr-ipip", DSR_IPIP, "dsr-ipip"),
        direct("dsr-gue", DSR_GUE, "dsr-gue"),
        ServiceText {
            vip: direct_vips()[..1].to_vec(),
            only_ipv6: true,
            ..direct("dsr-over-ipv6", DSR_OVER_IPV6, "dsr-ipip")
        },
        ServiceText {
            vip: echo_vips().to_vec(),
            protocol: "icmp",
            endpoint_port: 0,
            ..ServiceText::new("echo", "*", "nat")
        },
    ]
}

fn rule(name: &str, priority: u16, source: &str, destination: Option<&str>, action: &str) -> String {
    let destination = destination.map(|d| format!(", destination: \"{d}\"")).unwrap_or_default();
    format!(
        "apiVersion: lockstep/v1\nkind: SnatRule\nname: {name}\nspec:\n  group: edge\n  priority: {priority}\n  \
         match: {{source: \"{source}\"{destination}}}\n  action: {action}\n"
    )
}

fn rules() -> Vec<String> {
    let [egress4, egress6] = egress();
    let [static4, static6] = static_addresses();
    let exempt = format!("{}/32", exempt());
    let third = |address: IpAddr, bits: u8| format!("{address}/{bits}");
    vec![
        rule("exempt", 5, "10.0.0.0/24", Some(&exempt), "{type: none}"),
        rule(
            "static4",
            10,
            &third(ENDPOINTS[2].into(), 32),
            None,
            &format!("{{type: static, to: [\"{static4}\"]}}"),
        ),
        rule(
            "static6",
            10,
            &third(ENDPOINTS6[2].into(), 128),
            None,
            &format!("{{type: static, to: [\"{static6}\"]}}"),
        ),
        rule("egress4", 100, "10.0.0.0/24", None, &format!("{{type: snat, to: [\"{egress4}\"]}}")),
        rule("egress6", 100, "fd00:e::/64", None, &format!("{{type: snat, to: [\"{egress6}\"]}}")),
    ]
}

/// Everything.
pub(in crate::scenarios) fn manifest() -> String {
    let group = format!(
        "apiVersion: lockstep/v1\nkind: Group\nname: edge\nspec:\n  addresses: [{}]\n  nodes: [a, b]\n  standbys: 1\n",
        list(&[FLOATING.into(), FLOATING6.into()])
    );
    let documents = std::iter::once(group).chain(services().into_iter().map(|s| s.text())).chain(rules());
    documents.collect::<Vec<_>>().join("---\n")
}
