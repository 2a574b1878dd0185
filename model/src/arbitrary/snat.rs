//! SNAT rules.

use std::net::IpAddr;

use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{address, group_name, rule_name};
use crate::intent::{PortRange, Prefix, SnatAction, SnatRuleSpec};
use crate::protocol::{Family, Protocol};

/// A rule that is valid by itself.
pub fn snat_rule_spec() -> impl Strategy<Value = SnatRuleSpec> {
    let head = (rule_name(), group_name(), select(vec![0_u16, 100, 65535]));
    let protocol = option::of(select(Protocol::ALL.to_vec()));
    let ports = select(vec![PortRange::ANY, PortRange::single(25), PortRange { first: 1000, last: 1999 }]);
    (head, prefixes(), protocol, ports, btree_set(address(), 1..4), 0_u8..3).prop_map(
        |((name, group, priority), (source, destination), protocol, ports, to, kind)| {
            let family = source.family();
            let to: Vec<IpAddr> = to.into_iter().filter(|a| Family::of(*a) == family).collect();
            let action = match (kind, &to[..]) {
                (_, []) | (0, _) => SnatAction::None,
                (1, [first, ..]) => SnatAction::Static(*first),
                _ => SnatAction::Snat(to),
            };
            let with_ports = protocol.is_some_and(|p| p.has_ports());
            let ports = if with_ports { ports } else { PortRange::ANY };
            let rule = SnatRuleSpec { name, group, priority, source, destination, protocol, ports, action };
            match rule.action {
                SnatAction::Static(_) => SnatRuleSpec {
                    source: Prefix::host(host(family)),
                    destination: Prefix::any(family),
                    protocol: None,
                    ports: PortRange::ANY,
                    ..rule
                },
                SnatAction::Snat(_) | SnatAction::None => rule,
            }
        },
    )
}

fn host(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, 11]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 11]),
    }
}

fn prefixes() -> impl Strategy<Value = (Prefix, Prefix)> {
    let of = |text: &str| text.parse().expect("they are prefixes");
    let pairs = [
        ("10.0.0.0/24", "0.0.0.0/0"),
        ("10.0.0.0/8", "203.0.113.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00::/64", "::/0"),
        ("fd00::11/128", "2001:db8:9::/48"),
    ];
    select(pairs.to_vec()).prop_map(move |(source, destination)| (of(source), of(destination)))
}
