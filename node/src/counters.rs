//! Every counter of this node in one list, read when asked for: `lockstep counters` and `/metrics` show the
//! same numbers (I14).

use crate::parts::Parts;

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    /// `packets`, `lease`, `sync`, `reconcile`, `ownership`, `announce`, `hops`,
    /// `port_blocks`, `health`, `raft_store`, `routing`.
    pub(crate) family: &'static str,
    /// The reason.
    pub(crate) name: String,
    pub(crate) value: u64,
}

/// What a family counts.
pub(crate) fn help(family: &str) -> &'static str {
    match family {
        "packets" => "Packets by verdict and reason, from the kernel programs",
        "lease" => "Lease datagrams and leases",
        "sync" => "Flow replication",
        "ownership" => "Decisions of this node while it led",
        "reconcile" => "Passes that compare the kernel with the agreed state",
        "raft_refused" => "Requests of peers that were refused",
        "raft_store" => "The Raft store: how often its disk was full, and how often it went on",
        "announce" => "Gratuitous ARP and unsolicited neighbour advertisements",
        "hops" => "The next hop table: what happened to it",
        "port_blocks" => "Port blocks: changes that were agreed on, and alarms",
        "health" => "Health checks of endpoints: probes, reports to the leader, verdicts",
        "routing" => "Runs of the hook that tells routing daemons of owner changes: done, and failed",
        "events" => "Flow events from the kernel",
        _ => "",
    }
}

/// All counters, also those at zero.
pub(crate) fn read(parts: &Parts) -> Vec<Counter> {
    let mut all = Vec::new();
    let mut add = |family, list: Vec<(String, u64)>| {
        all.extend(list.into_iter().map(|(name, value)| Counter { family, name, value }));
    };
    if let Some(dataplane) = &parts.dataplane {
        add("packets", dataplane.packet_counters());
        let programmed = dataplane.programmed();
        let passes = [("failures", programmed.failures), ("reattached", programmed.reattached)];
        add("reconcile", passes.map(|(name, value)| (name.to_owned(), value)).into());
        add("announce", dataplane.announce_counters());
        add("hops", dataplane.hops.counters());
        add("port_blocks", dataplane.port_counts.read());
    }
    if let Some(hook) = &parts.routing {
        add("routing", hook.counters());
    }
    add("health", parts.health.counters());
    if let Some(sync) = parts.sync() {
        add("sync", sync.counters());
    }
    if let Some(lease) = parts.lease() {
        add("lease", lease.counters());
        add("ownership", lease.leader_counters());
    }
    let store = parts.raft.store_counts().into_iter();
    add("raft_store", store.map(|(name, count)| (name.to_owned(), count)).collect());
    let refused = parts.raft.refusals().into_iter();
    add("raft_refused", refused.map(|(reason, count)| (reason.to_owned(), count)).collect());
    all
}
