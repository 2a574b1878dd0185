//! The kernel's own balancer: DNAT to the server, masquerade towards it.

use super::network::{Addresses, Network};
use super::server::{DATAGRAMS, HTTP, STREAM};
use super::subject::Subject;
use lockstep_cluster_tests::nft;

/// Loads the rules; they go with their namespace.
pub(crate) fn start(network: &Network) -> anyhow::Result<()> {
    let at = Addresses::of(Subject::Nftables);
    let (vip, server) = (at.vip(), at.server());
    let rules = format!(
        "table ip nat {{\n\
         chain in {{ type nat hook prerouting priority dstnat;\n\
         ip daddr {vip} tcp dport {{ {HTTP}, {STREAM} }} dnat to {server}\n\
         ip daddr {vip} udp dport {DATAGRAMS} dnat to {server}\n}}\n\
         chain out {{ type nat hook postrouting priority srcnat; oifname \"eth1\" masquerade\n}}\n}}\n"
    );
    nft::load(network.balancer(Subject::Nftables), &rules)
}
