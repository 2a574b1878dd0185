//! Whether this node could serve a group, for the leader's choice: carrier, programmed intent, flows, disk.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_model::ids::{GroupId, LogIndex, NodeId, Revision};
use lockstep_model::state::State;
use lockstep_ownership::status::{Candidacy, Flows, LocalStatus, SILENT_AFTER, Unfit};
use lockstep_sync_core::{GroupSync, SyncState};

use crate::links::Down;
use crate::reconcile::Programmed;

/// What is looked at.
pub(crate) struct Inputs<'a> {
    pub(crate) me: NodeId,
    pub(crate) state: &'a State,
    pub(crate) programmed: &'a Programmed,
    pub(crate) down: &'a Down,
    /// Groups most of whose endpoints only this node does not reach.
    pub(crate) cut_off: &'a BTreeSet<GroupId>,
    pub(crate) draining: bool,
    /// The store has stopped for want of space.
    pub(crate) disk_full: bool,
    /// The kernel kept flows of an earlier run: of groups made up to this index of the log.
    pub(crate) kept: Option<LogIndex>,
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
            flows: known(inputs, *group, &flows(*group)),
        })
        .collect();
    LocalStatus { draining: inputs.draining, candidacies }
}

/// Why this node could not serve `group` now.
pub(crate) fn fitness(inputs: &Inputs<'_>, group: GroupId) -> Result<(), Unfit> {
    if inputs.disk_full {
        return Err(Unfit::DiskFull);
    }
    // Any revision since it was made will do: the group was programmed by then. That a change of it is not yet in this kernel is
    // no reason to move it, and a lag is reported by the owner's own rule (DESIGN section 7, stale intent).
    let created = inputs.state.groups.get(&group).map(|g| g.revision.min(Revision(group.made_at().get())));
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

fn known(inputs: &Inputs<'_>, group: GroupId, sync: &GroupSync) -> Flows {
    let agreed = inputs.state.groups.get(&group);
    let newest = agreed.and_then(|g| g.assignment).map(|a| a.epoch);
    // What replication says of the time before this node was to hold the group, or before it was not, says nothing.
    let heard =
        agreed.is_none_or(|g| g.replicas.is_empty() || g.replicas.get(&inputs.me) == sync.replica.as_ref());
    match sync.state {
        // Somebody else is about to serve, or does already: from then on something is missing here.
        SyncState::Owner if newest > Some(sync.epoch) => Flows::Behind(Duration::ZERO),
        SyncState::Owner => Flows::CaughtUp,
        SyncState::CaughtUp if heard && sync.age > SILENT_AFTER => Flows::Silent(sync.age),
        SyncState::CaughtUp if heard => Flows::CaughtUp,
        SyncState::Syncing if heard && sync.epoch.get() > 0 => Flows::Behind(sync.age),
        SyncState::CaughtUp | SyncState::Syncing | SyncState::Never => match inputs.kept {
            Some(up_to) if group.made_at() <= up_to => Flows::Kept,
            _ => Flows::Never,
        },
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::ids::Epoch;
    use lockstep_model::intent::GroupSpec;
    use lockstep_model::state::{Assignment, Group};

    use super::*;

    const GROUP: GroupId = GroupId(LogIndex(7).object(0));

    fn group(assignment: Option<Assignment>, revision: u64) -> Group {
        let spec = GroupSpec {
            name: "edge".to_owned(),
            addresses: Vec::new(),
            interfaces: Vec::new(),
            nodes: Vec::new(),
            standbys: 1,
            failback: false,
        };
        Group { spec, assignment, replicas: Default::default(), revision: Revision(revision) }
    }

    /// The inputs of a node with nothing wrong, about `state`.
    fn well<'a>(
        state: &'a State,
        programmed: &'a Programmed,
        down: &'a Down,
        cut_off: &'a BTreeSet<GroupId>,
    ) -> Inputs<'a> {
        Inputs {
            me: NodeId(1),
            state,
            programmed,
            down,
            cut_off,
            draining: false,
            disk_full: false,
            kept: None,
        }
    }

    #[test]
    fn a_change_of_a_group_makes_nobody_unfit_who_has_programmed_it_once() {
        let (mut programmed, down, cut_off) = <(Programmed, Down, BTreeSet<GroupId>)>::default();
        let state = State { groups: [(GROUP, group(None, 12))].into(), ..State::default() };
        programmed.revision = Revision(6);
        assert_eq!(fitness(&well(&state, &programmed, &down, &cut_off), GROUP), Err(Unfit::IntentNotApplied));
        programmed.revision = Revision(7);
        assert_eq!(fitness(&well(&state, &programmed, &down, &cut_off), GROUP), Ok(()), "changed at 12");
    }

    #[test]
    fn i5_what_a_node_says_of_its_flows() {
        let (programmed, down, cut_off) = <(Programmed, Down, BTreeSet<GroupId>)>::default();
        let sync = |state, epoch: u64, age_s| GroupSync {
            state,
            epoch: Epoch(epoch),
            origin: None,
            age: Duration::from_secs(age_s),
            connected: false,
            replica: Some(LogIndex(8)),
        };
        let assignment = Some(Assignment { epoch: Epoch(9), node: NodeId(1) });
        let state = State { groups: [(GROUP, group(assignment, 7))].into(), ..State::default() };
        let mut inputs = well(&state, &programmed, &down, &cut_off);
        let nothing = sync(SyncState::Syncing, 0, 0);
        assert_eq!(known(&inputs, GROUP, &sync(SyncState::Owner, 9, 0)), Flows::CaughtUp);
        let former = known(&inputs, GROUP, &sync(SyncState::Owner, 8, 0));
        assert_eq!(former, Flows::Behind(Duration::ZERO), "another has been given the group");
        assert_eq!(known(&inputs, GROUP, &nothing), Flows::Never);
        inputs.kept = Some(LogIndex(7));
        assert_eq!(known(&inputs, GROUP, &nothing), Flows::Kept, "its daemon started on a kernel with flows");
        let behind = sync(SyncState::Syncing, 8, 3);
        assert_eq!(known(&inputs, GROUP, &behind), Flows::Behind(Duration::from_secs(3)));
        inputs.kept = Some(LogIndex(6));
        assert_eq!(known(&inputs, GROUP, &nothing), Flows::Never, "the group was made after that");

        assert_eq!(known(&inputs, GROUP, &sync(SyncState::CaughtUp, 9, 1)), Flows::CaughtUp);
        let silent = known(&inputs, GROUP, &sync(SyncState::CaughtUp, 9, 2));
        assert_eq!(silent, Flows::Silent(Duration::from_secs(2)), "of an owner that others hear, perhaps");

        for (since, says) in [(8, Flows::CaughtUp), (9, Flows::Never)] {
            let mut group = group(assignment, 7);
            group.replicas.insert(NodeId(1), LogIndex(since));
            let state = State { groups: [(GROUP, group)].into(), ..State::default() };
            let inputs = well(&state, &programmed, &down, &cut_off);
            let held = known(&inputs, GROUP, &sync(SyncState::CaughtUp, 9, 0));
            assert_eq!(held, says, "a replica since {since}, and replication has heard of 8");
        }
    }

    #[test]
    fn a_node_whose_disk_is_full_is_unfit_whatever_else_it_is() {
        let (state, programmed) = (State::default(), Programmed::default());
        let (down, cut_off) = (Down::default(), BTreeSet::new());
        let mut inputs = well(&state, &programmed, &down, &cut_off);
        inputs.disk_full = true;
        assert_eq!(fitness(&inputs, GroupId(1)), Err(Unfit::DiskFull));
        inputs.disk_full = false;
        assert_eq!(fitness(&inputs, GroupId(1)), Err(Unfit::IntentNotApplied));
    }
}
