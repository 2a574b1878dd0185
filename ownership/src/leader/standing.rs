//! How able a node is to serve a group, as the leader sees it.

use lockstep_model::ids::GroupId;

use crate::message::Report;
use crate::status::{Flows, Unfit};

/// Ordered: a group moves only to a node that stands strictly higher than its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No fresh report, or a quorum does not hear it.
    Gone,
    /// It says that it cannot, or should not, serve the group.
    Unfit,
    /// It has failed lately, and could fail again.
    HeldDown,
    /// It can.
    Fit,
}

/// Why a node cannot be chosen, for `group status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ineligible {
    /// Not a data-plane node, or not named by the group.
    NotCandidate,
    /// No fresh report.
    Silent,
    /// It is shutting down or was asked to give its groups away.
    Draining,
    /// It does not know the group, or has no data plane for it.
    Unknown,
    /// It has not applied the group's newest assignment yet: what it says of itself may be of an earlier one, which was
    /// its own.
    Behind,
    /// It says so itself.
    Unfit(Unfit),
    /// It failed lately.
    HeldDown,
}

/// What a fresh report says of its sender.
pub(super) fn of_report(report: &Report, group: GroupId) -> Result<Flows, Ineligible> {
    let candidacy = report.candidacies.iter().find(|c| c.group == group).ok_or(Ineligible::Unknown)?;
    if report.draining {
        return Err(Ineligible::Draining);
    }
    candidacy.fitness.map_err(Ineligible::Unfit)?;
    Ok(candidacy.flows)
}
