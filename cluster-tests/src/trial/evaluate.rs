//! From what was observed to the report.

use std::collections::BTreeMap;

use anyhow::Context;
use lockstep_proto::inspect::v1::{Failover, GroupStatus};

use super::{Trial, relative};
use crate::capture::judge::{self, IN_FLIGHT};
use crate::capture::watch::Seen;
use crate::clock::{Nanos, between_ms, nanos, to_ms};
use crate::cluster::GROUP;
use crate::fault::Event;
use crate::report::{GroupOwners, NewConnections, Report, TimelineEntry, YoungFlows};
use crate::stats::{Percentiles, longest_gap};
use crate::topology::Node;
use crate::traffic::load::Outcome;
use crate::traffic::tcp_client::{Kind, corrupted};

/// Who owns what, as one node says.
pub(super) struct Ownership {
    /// Of the group that has the traffic.
    pub(super) owner: Node,
    pub(super) epoch: u64,
    /// Every group's owner.
    pub(super) all: BTreeMap<String, String>,
}

impl Ownership {
    pub(super) fn of(groups: Vec<GroupStatus>) -> anyhow::Result<Self> {
        let edge = groups.iter().find(|group| group.name == GROUP).context("the group is gone")?;
        let (owner, epoch) = (Node::from_name(&edge.owner_name)?, edge.epoch);
        let all = groups.into_iter().map(|group| (group.name, group.owner_name)).collect();
        Ok(Ownership { owner, epoch, all })
    }
}

/// Everything observed in one trial.
pub(super) struct Evidence<'a> {
    pub(super) trial: &'a Trial,
    pub(super) balancers: usize,
    pub(super) at: Nanos,
    pub(super) until: Nanos,
    pub(super) owner: Node,
    pub(super) before: Ownership,
    pub(super) after: Ownership,
    pub(super) leader_before: Node,
    pub(super) leader_after: Node,
    pub(super) flows_on_standby: usize,
    pub(super) unsynced: Option<usize>,
    pub(super) corrupted_at_endpoints: u64,
    pub(super) outcome: &'a Outcome,
    pub(super) seen: &'a Seen,
    pub(super) events: Vec<Event>,
    pub(super) failovers: Vec<(Node, Failover)>,
}

impl Evidence<'_> {
    pub(super) fn report(self) -> Report {
        let window = nanos(self.trial.around);
        // The window ends before the traffic does, so that no flow that stopped in order shows a gap.
        let (from, to) = (self.at - window, self.until.min(self.at + window));
        let of = |kind: Kind| self.outcome.tcp.iter().filter(move |flow| flow.kind == kind);
        let probes = || self.outcome.udp.iter().filter(|flow| flow.is_probe());
        let gaps = |from, to| Percentiles::of(probes().map(|p| longest_gap(&p.heard, from, to)).collect());
        let stalls =
            of(Kind::Held).filter(|f| f.is_fast()).map(|f| longest_gap(&f.heard, self.at, to)).collect();
        let verdict = judge::judge_changes(self.seen, from, self.until, &self.changes());
        let phases_ms = self.phases();
        let timeline = self.timeline(&phases_ms);
        let mut report = Report {
            result: "fail",
            failures: Vec::new(),
            fault: self.trial.fault.name(),
            nodes: self.balancers,
            profile: self.trial.profile.name(),
            lease_ms: self.trial.profile.lease_ms(),
            tcp_flows: of(Kind::Held).count(),
            tcp_survived: of(Kind::Held).filter(|flow| flow.intact()).count(),
            tcp_corrupted: corrupted(self.outcome.tcp.iter()) + self.corrupted_at_endpoints as usize,
            udp_flows: self.outcome.udp.len(),
            udp_survived: self.outcome.udp.iter().filter(|flow| flow.intact()).count(),
            udp_endpoint_changed: self.outcome.udp.iter().filter(|flow| flow.endpoint_changed).count(),
            rst_seen: self.seen.rst.len(),
            icmp_unreachable_seen: self.seen.unreachable.len(),
            gap_ms: gaps(self.at, to),
            gap_ms_no_fault: gaps(from, self.at),
            tcp_stall_ms: Percentiles::of(stalls),
            young_flows: self.young(),
            unsynced_at_fault: self.unsynced,
            new_connections: self.new_connections(),
            owner_before: self.owner.name().to_owned(),
            owner_after: self.after.owner.name().to_owned(),
            leader_before: self.leader_before.name().to_owned(),
            leader_after: self.leader_after.name().to_owned(),
            epoch_before: self.before.epoch,
            epoch_after: self.after.epoch,
            groups: self.groups(),
            flows_on_standby_before: self.flows_on_standby,
            overlap_ns: verdict.overlap,
            in_flight_bound_ns: nanos(IN_FLIGHT),
            packets_judged: verdict.judged,
            untranslated_seen: self.seen.nodes.values().map(|n| n.untranslated.len()).sum(),
            frames_lost: self.seen.lost,
            phases_ms,
            timeline,
        };
        report.decide();
        report
    }

    /// When the former owner forwarded its last packet. It forwards on for a moment after most faults, and what is
    /// opened by then is opened through it: connections until then are young, later ones are new.
    fn changed_at(&self) -> Nanos {
        let last = self.translated(self.owner).rfind(|t| self.next().is_some() && **t <= self.until);
        last.map_or(self.at, |last| self.at.max(*last))
    }

    fn groups(&self) -> BTreeMap<String, GroupOwners> {
        let after = |name: &String| self.after.all.get(name).cloned().unwrap_or_default();
        let owners = |(name, before): (&String, &String)| {
            (name.clone(), GroupOwners { before: before.clone(), after: after(name) })
        };
        self.before.all.iter().map(owners).collect()
    }

    fn young(&self) -> YoungFlows {
        let changed_at = self.changed_at();
        let young =
            || self.outcome.tcp.iter().filter(move |f| f.kind != Kind::Held && f.opened_at <= changed_at);
        let lost = || young().filter(|flow| !flow.intact());
        YoungFlows {
            opened: young().count(),
            lost: lost().count(),
            oldest_lost_ms: lost()
                .map(|flow| to_ms(self.at.saturating_sub(flow.opened_at)))
                .fold(0.0, f64::max),
        }
    }

    fn new_connections(&self) -> NewConnections {
        let changed_at = self.changed_at();
        let new =
            || self.outcome.tcp.iter().filter(move |f| f.kind != Kind::Held && f.opened_at > changed_at);
        NewConnections { attempted: new().count(), failed: new().filter(|flow| !flow.intact()).count() }
    }

    /// The phases of the takeover: the nodes' records (the earliest of each), and what the network showed.
    fn phases(&self) -> BTreeMap<&'static str, f64> {
        let mut phases = BTreeMap::new();
        for (_, record) in self.takeover_records() {
            for (name, at) in phases_of(record) {
                let ms = between_ms(self.at, at);
                phases.entry(name).and_modify(|known: &mut f64| *known = known.min(ms)).or_insert(ms);
            }
        }
        if let Some(next) = self.next() {
            if let Some(first) = self.translated(next).find(|t| **t > self.at) {
                phases.insert("first_packet", between_ms(self.at, *first));
            }
            if let Some(last) = self.translated(self.owner).rfind(|t| **t <= self.until) {
                phases.insert("last_packet_of_former_owner", between_ms(self.at, *last));
            }
        }
        phases
    }

    /// Who owns the group afterwards, if another does.
    fn next(&self) -> Option<Node> {
        Some(self.after.owner).filter(|next| *next != self.owner)
    }

    fn translated(&self, node: Node) -> std::slice::Iter<'_, Nanos> {
        self.seen.nodes.get(node.name()).map_or(&[][..], |seen| &seen.translated).iter()
    }

    /// When a node began to serve under another epoch, in order.
    fn changes(&self) -> Vec<Nanos> {
        let mut by_epoch = BTreeMap::new();
        for (_, record) in &self.failovers {
            if let Some(at) = record.map_written_ns {
                by_epoch.entry(record.epoch_after).or_insert(at);
            }
        }
        by_epoch.into_values().collect()
    }

    fn takeover_records(&self) -> impl Iterator<Item = &(Node, Failover)> {
        self.failovers.iter().filter(|(_, record)| record.epoch_after > self.before.epoch)
    }

    fn timeline(&self, phases: &BTreeMap<&'static str, f64>) -> Vec<TimelineEntry> {
        let mut timeline: Vec<TimelineEntry> = self
            .events
            .iter()
            .map(|event| TimelineEntry {
                t_ms: relative(event, self.at),
                node: event.node.to_owned(),
                event: event.event.clone(),
            })
            .collect();
        for (node, record) in self.takeover_records() {
            for (name, at) in phases_of(record) {
                timeline.push(TimelineEntry {
                    t_ms: between_ms(self.at, at),
                    node: node.name().to_owned(),
                    event: format!("{} (epoch {})", name.replace('_', " "), record.epoch_after),
                });
            }
        }
        let shown = [
            ("first_packet", self.after.owner, "first packet forwarded"),
            ("last_packet_of_former_owner", self.owner, "last packet forwarded"),
        ];
        for (phase, node, event) in shown {
            if let Some(t_ms) = phases.get(phase) {
                let (node, event) = (node.name().to_owned(), event.to_owned());
                timeline.push(TimelineEntry { t_ms: *t_ms, node, event });
            }
        }
        timeline.sort_by(|a, b| a.t_ms.total_cmp(&b.t_ms));
        timeline
    }
}

/// The phases that a record has, in their order.
fn phases_of(record: &Failover) -> impl Iterator<Item = (&'static str, Nanos)> {
    [
        ("last_renewal", record.last_renewal_ns),
        ("suspected", record.suspected_ns),
        ("committed", record.committed_ns),
        ("promised", record.promised_ns),
        ("map_written", record.map_written_ns),
        ("announced", record.announced_ns),
    ]
    .into_iter()
    .filter_map(|(name, at)| Some((name, at?)))
}
