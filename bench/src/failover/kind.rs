//! What is done to the node that serves.

use lockstep_cluster_tests::fault::Fault;

/// A row of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything on it killed and its links cut, while another node leads.
    Power,
    /// The same while it leads: an election comes first.
    PowerLeader,
    /// Its daemon killed; its kernel forwards on until the lease ends.
    Kill,
    /// Its client-side link cut: it hands over.
    Link,
    /// An operator moves the group.
    Handover,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Power, Kind::PowerLeader, Kind::Kill, Kind::Link, Kind::Handover];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Power => "power",
            Kind::PowerLeader => "power-leader",
            Kind::Kill => "kill",
            Kind::Link => "link",
            Kind::Handover => "handover",
        }
    }

    /// By name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("allowed: {}", Kind::ALL.map(Kind::name).join(", ")))
    }

    /// What is injected; a hand-over breaks nothing.
    pub(crate) const fn fault(self) -> Fault {
        match self {
            Kind::Power | Kind::PowerLeader => Fault::Power,
            Kind::Kill => Fault::Kill,
            Kind::Link => Fault::Link,
            Kind::Handover => Fault::None,
        }
    }

    /// Whether the Raft leader shall be the node that serves.
    pub(crate) const fn on_leader(self) -> bool {
        matches!(self, Kind::PowerLeader)
    }
}
