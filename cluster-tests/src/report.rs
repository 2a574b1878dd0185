//! The demo's report: a table for people, JSON for programs, and the rules by which it says pass.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::stats::Percentiles;

/// Flows at least this old at the fault must survive, whatever.
pub const SETTLED_AGE_MS: f64 = 20.0;

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `pass` or `fail`.
    pub result: &'static str,
    /// Why it failed, if it did.
    pub failures: Vec<String>,
    /// The fault.
    pub fault: &'static str,
    /// Data-plane nodes.
    pub nodes: usize,
    /// Lease profile.
    pub profile: &'static str,
    /// Its duration.
    pub lease_ms: u64,
    /// Held TCP flows.
    pub tcp_flows: usize,
    /// Those with every byte answered, right, to the end.
    pub tcp_survived: usize,
    /// Those with a wrong byte, at either end.
    pub tcp_corrupted: usize,
    /// UDP flows, probes included.
    pub udp_flows: usize,
    /// Those answered to the end, by the endpoint they always had.
    pub udp_survived: usize,
    /// Those answered by another endpoint.
    pub udp_endpoint_changed: usize,
    /// RST segments at clients or endpoints.
    pub rst_seen: usize,
    /// ICMP destination-unreachable messages at clients or endpoints.
    pub icmp_unreachable_seen: usize,
    /// The probes' longest silence around the fault.
    pub gap_ms: Percentiles,
    /// The same over as long an interval before it.
    pub gap_ms_no_fault: Percentiles,
    /// The longest silence of TCP flows that write at 100 Hz.
    pub tcp_stall_ms: Percentiles,
    /// Flows opened up to the fault, and after it while the former owner still forwarded.
    pub young_flows: YoungFlows,
    /// Flows that lived at the dead owner and were not with the survivor; null without a change of owner.
    pub unsynced_at_fault: Option<usize>,
    /// Connections opened after that.
    pub new_connections: NewConnections,
    /// Owner before the fault.
    pub owner_before: String,
    /// Owner at the end.
    pub owner_after: String,
    /// Raft leader before the fault.
    pub leader_before: String,
    /// Raft leader at the end.
    pub leader_after: String,
    /// Epoch before the fault.
    pub epoch_before: u64,
    /// Epoch at the end.
    pub epoch_after: u64,
    /// Who owns each group, before the fault and at the end: with three balancers and more, each owns one.
    pub groups: BTreeMap<String, GroupOwners>,
    /// Flows in a standby's kernel right before the fault, the fewest of them.
    pub flows_on_standby_before: usize,
    /// By how much two nodes' translated packets overlap in time.
    pub overlap_ns: u64,
    /// The tolerance in it.
    pub in_flight_bound_ns: u64,
    /// Translated packets looked at for that.
    pub packets_judged: usize,
    /// Endpoints' packets that left a balancer untranslated.
    pub untranslated_seen: usize,
    /// Frames the captures missed.
    pub frames_lost: u64,
    /// The takeover's phases, ms after the fault.
    pub phases_ms: BTreeMap<&'static str, f64>,
    /// What happened when.
    pub timeline: Vec<TimelineEntry>,
}

/// Flows opened until the former owner forwarded its last packet.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct YoungFlows {
    /// How many.
    pub opened: usize,
    /// Not answering after it.
    pub lost: usize,
    /// Age at the fault of the oldest of them; 0 if it was opened later.
    pub oldest_lost_ms: f64,
}

/// Connections opened after the former owner forwarded its last packet.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct NewConnections {
    /// How many were tried.
    pub attempted: usize,
    /// How many had no answer by the end.
    pub failed: usize,
}

/// Names of a group's owners.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupOwners {
    /// Before the fault; empty: nobody.
    pub before: String,
    /// At the end.
    pub after: String,
}

/// One event.
#[derive(Debug, Clone, Serialize)]
pub struct TimelineEntry {
    /// After the fault.
    pub t_ms: f64,
    /// Where.
    pub node: String,
    /// What.
    pub event: String,
}

impl Report {
    /// Judges it by the criteria and sets the result.
    pub fn decide(&mut self) {
        self.failures = self.violations();
        self.result = if self.failures.is_empty() { "pass" } else { "fail" };
    }

    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut demand = |holds: bool, text: String| {
            if !holds {
                found.push(text);
            }
        };
        demand(
            self.tcp_survived == self.tcp_flows && self.tcp_flows > 0,
            format!("{} of {} TCP flows survived", self.tcp_survived, self.tcp_flows),
        );
        demand(self.tcp_corrupted == 0, format!("{} TCP flows had wrong bytes", self.tcp_corrupted));
        demand(
            self.udp_survived == self.udp_flows && self.udp_flows > 0,
            format!("{} of {} UDP flows survived", self.udp_survived, self.udp_flows),
        );
        demand(
            self.udp_endpoint_changed == 0,
            format!("{} UDP flows changed their endpoint", self.udp_endpoint_changed),
        );
        demand(self.rst_seen == 0, format!("{} RST segments", self.rst_seen));
        demand(
            self.icmp_unreachable_seen == 0,
            format!("{} ICMP destination-unreachable messages", self.icmp_unreachable_seen),
        );
        demand(self.overlap_ns == 0, format!("two owners overlapped by {} ns", self.overlap_ns));
        demand(self.packets_judged > 0, "no packet was judged".to_owned());
        demand(
            self.untranslated_seen == 0,
            format!("{} packets left a balancer untranslated", self.untranslated_seen),
        );
        let young = &self.young_flows;
        demand(
            young.lost == 0 || young.oldest_lost_ms < SETTLED_AGE_MS,
            format!("a flow that was {:.1} ms old at the fault was lost", young.oldest_lost_ms),
        );
        let unsynced = self.unsynced_at_fault.unwrap_or(0);
        demand(
            young.lost <= unsynced,
            format!("{} young flows were lost, {unsynced} were not replicated", young.lost),
        );
        demand(
            self.new_connections.failed == 0,
            format!(
                "{} of {} new connections failed",
                self.new_connections.failed, self.new_connections.attempted
            ),
        );
        if self.fault == "none" || self.nodes == 1 {
            demand(
                self.owner_after == self.owner_before && self.epoch_after == self.epoch_before,
                "the owner changed without a reason".to_owned(),
            );
        } else {
            demand(
                self.owner_after != self.owner_before && self.epoch_after > self.epoch_before,
                format!("{} did not take over", self.owner_after),
            );
        }
        demand(self.spread(), "a node owns no group, and another several".to_owned());
        for (name, owners) in &self.groups {
            let given = owners.after != self.owner_before;
            demand(
                !owners.after.is_empty() && (given || self.owner_after == self.owner_before),
                format!("{name} is with {:?} afterwards", owners.after),
            );
        }
        found
    }

    /// Whether the groups were with as many nodes as could be.
    fn spread(&self) -> bool {
        let owners: BTreeSet<&str> = self.groups.values().map(|owners| owners.before.as_str()).collect();
        !owners.contains("") && owners.len() == self.groups.len().min(self.nodes)
    }

    /// As a table.
    pub fn table(&self) -> String {
        let p = |p: &Percentiles| format!("p50 {:.1}   p99 {:.1}   max {:.1} ms", p.p50, p.p99, p.max);
        let change = |before: &str, after: &str| format!("{before} -> {after}");
        let mut rows = vec![
            ("result", self.result.to_owned()),
            ("fault", format!("{} ({} profile, lease {} ms)", self.fault, self.profile, self.lease_ms)),
            (
                "TCP flows",
                format!(
                    "{} of {} survived, {} corrupted",
                    self.tcp_survived, self.tcp_flows, self.tcp_corrupted
                ),
            ),
            (
                "UDP flows",
                format!(
                    "{} of {} survived, {} changed endpoint",
                    self.udp_survived, self.udp_flows, self.udp_endpoint_changed
                ),
            ),
            (
                "young flows",
                format!(
                    "{} lost of {} opened just before, {} not replicated yet, oldest lost {:.1} ms",
                    self.young_flows.lost,
                    self.young_flows.opened,
                    self.unsynced_at_fault.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                    self.young_flows.oldest_lost_ms
                ),
            ),
            (
                "new connections",
                format!(
                    "{} failed of {} tried during and after",
                    self.new_connections.failed, self.new_connections.attempted
                ),
            ),
            ("longest silence", p(&self.gap_ms)),
            ("  without a fault", p(&self.gap_ms_no_fault)),
            ("TCP stall", p(&self.tcp_stall_ms)),
            ("RST, unreachable", format!("{}, {}", self.rst_seen, self.icmp_unreachable_seen)),
            (
                "two owners at once",
                format!("{} ns ({} packets judged)", self.overlap_ns, self.packets_judged),
            ),
            ("owner", change(&self.owner_before, &self.owner_after)),
            ("epoch", change(&self.epoch_before.to_string(), &self.epoch_after.to_string())),
            (
                "groups",
                self.groups
                    .iter()
                    .map(|(name, g)| format!("{name} {}", change(&g.before, &g.after)))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            ("leader", change(&self.leader_before, &self.leader_after)),
            ("flows on standby", self.flows_on_standby_before.to_string()),
        ];
        rows.extend(self.failures.iter().map(|failure| ("FAILED", failure.clone())));
        let mut text = String::from("\n");
        for (name, value) in rows {
            text += &format!("  {name:<20}{value}\n");
        }
        text += "\n  what happened when (ms after the fault)\n";
        for entry in &self.timeline {
            text += &format!("  {:>10.1}  {:<8}{}\n", entry.t_ms, entry.node, entry.event);
        }
        text
    }
}
