//! Whether this node could serve a group, for the leader's choice: carrier, programmed intent, flows, disk.

use std::collections::BTreeSet;

use lockstep_model::ids::GroupId;
use lockstep_model::state::State;
use lockstep_ownership::status::{Candidacy, Flows, LocalStatus, Unfit};
use lockstep_sync_core::{GroupSync, SyncState};

use crate::links::Down;
use crate::reconcile::Programmed;

/// What is looked at.
pub(crate) struct Inputs<'a> {
    pub(crate) state: &'a State,
    pub(crate) programmed: &'a Programmed,
    pub(crate) down: &'a Down,
    /// Groups most of whose endpoints only this node does not reach.
    pub(crate) cut_off: &'a BTreeSet<GroupId>,
    pub(crate) draining: bool,
    /// The store has stopped for want of space.
    pub(crate) disk_full: bool,
}

/// This node's own status.
pub(crate) fn status(inputs: &Inputs<'_>, flows: impl Fn(GroupId) -> GroupSync) -> LocalStatus {
    let candidacies = inputs
        .state
        .groups
        .keys()
        .map(|group| Candidacy {
            group: *group,
            fitness: fitness(inputs, *group),
            flows: known(&flows(*group)),
        })
        .collect();
    LocalStatus { draining: inputs.draining, candidacies }
}

/// Why this node could not serve `group` now.
pub(crate) fn fitness(inputs: &Inputs<'_>, group: GroupId) -> Result<(), Unfit> {
    if inputs.disk_full {
        return Err(Unfit::DiskFull);
    }
    let created = inputs.state.groups.get(&group).map(|g| g.revision);
    // Any later revision will do: the group and its services were programmed by then, and a lag is reported
    // by the owner's own rule (DESIGN section 7, stale intent).
    if inputs.programmed.error.is_some() || created.is_none_or(|created| inputs.programmed.revision < created)
    {
        return Err(Unfit::IntentNotApplied);
    }
    if inputs.programmed.unfit.contains_key(&group) {
        return Err(Unfit::NoInterface);
    }
    if !inputs.programmed.detached.is_empty() {
        return Err(Unfit::ProgramDetached);
    }
    if !inputs.down.is_empty() {
        return Err(Unfit::CarrierLost);
    }
    if inputs.cut_off.contains(&group) {
        return Err(Unfit::EndpointsNotReached);
    }
    Ok(())
}

fn known(sync: &GroupSync) -> Flows {
    match sync.state {
        SyncState::Owner | SyncState::CaughtUp => Flows::CaughtUp,
        SyncState::Syncing if sync.epoch.get() > 0 => Flows::Behind(sync.age),
        SyncState::Syncing | SyncState::Never => Flows::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_disk_is_full_is_unfit_whatever_else_it_is() {
        let (state, programmed) = (State::default(), Programmed::default());
        let (down, cut_off) = (Down::default(), BTreeSet::new());
        let mut inputs = Inputs {
            state: &state,
            programmed: &programmed,
            down: &down,
            cut_off: &cut_off,
            draining: false,
            disk_full: true,
        };
        assert_eq!(fitness(&inputs, GroupId(1)), Err(Unfit::DiskFull));
        inputs.disk_full = false;
        assert_eq!(fitness(&inputs, GroupId(1)), Err(Unfit::IntentNotApplied));
    }
}
