//! `kind: SnatRule`: how connections that leave a group's networks are translated.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{PortRange, Prefix};
use crate::protocol::{Family, Protocol};

/// What becomes of a connection that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnatAction {
    /// It leaves with one of these addresses, and a port of that address's blocks.
    Snat(Vec<IpAddr>),
    /// 1:1, both ways: what the host sends leaves with this address and the port it had, and what comes to
    /// this address and is no service's goes to the host.
    Static(IpAddr),
    /// It leaves as it is, whatever later rules say.
    None,
}

impl SnatAction {
    /// The addresses that the rule translates to. They belong to its group.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            SnatAction::Snat(to) => to,
            SnatAction::Static(to) => std::slice::from_ref(to),
            SnatAction::None => &[],
        }
    }
}

/// `kind: SnatRule`. Of the rules that match a connection, the one with the lowest `priority` decides; of
/// several with that priority, the oldest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnatRuleSpec {
    /// Unique name among rules, 1-63 characters of `a-z 0-9 -`.
    pub name: String,
    /// Name of the group that owns the addresses translated to, and whose owner translates.
    pub group: String,
    /// The lowest decides.
    pub priority: u16,
    /// Where the connection comes from.
    pub source: Prefix,
    /// Where it goes, of the same family.
    pub destination: Prefix,
    /// `None`: any.
    pub protocol: Option<Protocol>,
    /// Destination ports.
    pub ports: PortRange,
    /// What becomes of it.
    pub action: SnatAction,
}

impl SnatRuleSpec {
    /// The family of the packets it is about.
    pub const fn family(&self) -> Family {
        self.source.family()
    }
}
