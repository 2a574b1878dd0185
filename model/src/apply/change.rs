//! A change of intent: several objects, all or nothing.
//!
//! The order within a change has no meaning: everything is put into a draft first (settings, groups, services and
//! rules, then deletions of groups), and what must hold between objects is checked on the result. So a VIP can go
//! from one service to another in one change.

use std::collections::BTreeSet;

use super::{addresses, blocks, group, health, invalid, service, snat};
use crate::command::Change;
use crate::ids::{LogIndex, Revision};
use crate::limits::{MAX_CHANGES, MAX_GROUPS, MAX_PROBED_ENDPOINTS, MAX_SERVICES, MAX_SNAT_RULES};
use crate::state::{Applied, Refusal, State};

/// A state being changed.
pub(super) struct Draft {
    pub(super) state: State,
    pub(super) index: LogIndex,
    made: u32,
}

impl Draft {
    /// The next id of this command.
    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.index.object(self.made);
        self.made += 1;
        id
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.index.get())
    }
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Created,
    Configured,
    Unchanged,
    Deleted,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Verb::Created => "created",
            Verb::Configured => "configured",
            Verb::Unchanged => "unchanged",
            Verb::Deleted => "deleted",
        }
    }
}

pub(super) fn apply(
    state: &mut State,
    index: LogIndex,
    expected: Option<Revision>,
    changes: &[Change],
) -> Result<Applied, Refusal> {
    if let Some(expected) = expected.filter(|e| *e != state.revision) {
        return Err(Refusal::Conflict { expected, current: state.revision });
    }
    if changes.len() > MAX_CHANGES {
        return Err(invalid("changes".into(), changes.len(), format!("at most {MAX_CHANGES}")));
    }
    refuse_repeated(changes)?;

    let mut draft = Draft { state: state.clone(), index, made: 0 };
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_by_key(|i| phase(&changes[*i]));
    let mut verbs = vec![Verb::Unchanged; changes.len()];
    for i in order {
        verbs[i] = one(&mut draft, &changes[i])?;
        // Ids of one command are bounded because objects are.
        count("services", draft.state.services.len(), MAX_SERVICES)?;
        count("snat rules", draft.state.snat_rules.len(), MAX_SNAT_RULES)?;
        count("groups", draft.state.groups.len(), MAX_GROUPS)?;
    }
    count("endpoints with health checks", health::probed(&draft.state), MAX_PROBED_ENDPOINTS)?;
    service::check_frontends(&draft.state)?;
    service::check_sources(&draft.state)?;
    addresses::check(&draft.state)?;
    snat::check(&draft.state)?;

    let line = |(change, verb): (&Change, &Verb)| format!("{} {}", object(change), verb.as_str());
    let lines = changes.iter().zip(&verbs).map(line).collect();
    if verbs.iter().all(|v| *v == Verb::Unchanged) {
        return Ok(Applied::Unchanged { revision: state.revision, lines });
    }
    addresses::hand_over(state, &mut draft);
    blocks::follow(state, &mut draft.state);
    draft.state.revision = draft.revision();
    *state = draft.state;
    Ok(Applied::Changed { revision: state.revision, lines })
}

/// Deletions of services and rules come before any is written, so that their names and places are free;
/// deletions of groups come last, when nothing names them any more.
fn phase(change: &Change) -> u8 {
    match change {
        Change::SetCluster(_) => 0,
        Change::UpsertGroup(_) => 1,
        Change::DeleteService(_) | Change::DeleteSnatRule(_) => 2,
        Change::UpsertService(_) | Change::UpsertSnatRule(_) => 3,
        Change::DeleteGroup(_) => 4,
    }
}

fn one(draft: &mut Draft, change: &Change) -> Result<Verb, Refusal> {
    match change {
        Change::UpsertGroup(spec) => group::upsert(draft, spec),
        Change::DeleteGroup(name) => group::delete(draft, name),
        Change::UpsertService(spec) => service::upsert(draft, spec),
        Change::DeleteService(name) => service::delete(draft, name),
        Change::UpsertSnatRule(spec) => snat::upsert(draft, spec),
        Change::DeleteSnatRule(name) => snat::delete(draft, name),
        Change::SetCluster(settings) => {
            if draft.state.settings == *settings {
                return Ok(Verb::Unchanged);
            }
            draft.state.settings = *settings;
            Ok(Verb::Configured)
        }
    }
}

fn refuse_repeated(changes: &[Change]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for object in changes.iter().map(object) {
        if seen.contains(&object) {
            return Err(invalid(object, "named twice", "each object once in a change"));
        }
        seen.insert(object);
    }
    Ok(())
}

fn object(change: &Change) -> String {
    match change {
        Change::UpsertGroup(spec) => format!("group/{}", spec.name),
        Change::DeleteGroup(name) => format!("group/{name}"),
        Change::UpsertService(spec) => format!("service/{}", spec.name),
        Change::DeleteService(name) => format!("service/{name}"),
        Change::UpsertSnatRule(spec) => format!("snatrule/{}", spec.name),
        Change::DeleteSnatRule(name) => format!("snatrule/{name}"),
        Change::SetCluster(_) => "cluster".into(),
    }
}

fn count(what: &str, got: usize, most: usize) -> Result<(), Refusal> {
    if got > most { Err(invalid(what.into(), got, format!("at most {most}"))) } else { Ok(()) }
}
