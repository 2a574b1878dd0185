//! Verdicts on endpoints' health.

use std::collections::BTreeSet;

use super::invalid;
use crate::health::{Judgement, Verdict};
use crate::ids::{EndpointId, LogIndex};
use crate::limits::MAX_JUDGEMENTS;
use crate::state::{Applied, Refusal, Service, State};

pub(super) fn judge(
    state: &mut State,
    index: LogIndex,
    at_unix_ms: u64,
    judgements: &[Judgement],
) -> Result<Applied, Refusal> {
    if judgements.len() > MAX_JUDGEMENTS {
        return Err(invalid("judgements".into(), judgements.len(), format!("at most {MAX_JUDGEMENTS}")));
    }
    let revision = state.revision;
    let lines: Vec<String> =
        judgements.iter().filter_map(|judgement| one(state, index, at_unix_ms, judgement)).collect();
    match lines.is_empty() {
        true => Ok(Applied::Unchanged { revision, lines }),
        false => Ok(Applied::Changed { revision, lines }),
    }
}

/// What it changed, if anything. A service that changed since it was judged may have another check by now, or give
/// the endpoint another chance.
fn one(state: &mut State, index: LogIndex, at_unix_ms: u64, judgement: &Judgement) -> Option<String> {
    let Judgement { service, revision, endpoint, up, failure, nodes } = judgement;
    let service = state.services.get_mut(service).filter(|service| service.revision == *revision)?;
    let (_, spec) = service.probed().find(|(id, _)| id == endpoint)?;
    if service.verdicts.get(endpoint).is_some_and(|verdict| verdict.up == *up) {
        return None;
    }
    let word = if *up { "up" } else { "down" };
    let line = format!("service/{} endpoint {} {word}", service.spec.name, spec.address);
    let failure = failure.filter(|_| !up);
    let verdict = Verdict { up: *up, index, at_unix_ms, failure, nodes: nodes.clone() };
    service.verdicts.insert(*endpoint, verdict);
    Some(line)
}

/// Keeps no verdict on what is not probed any more. One on an endpoint that still is stays until the probes
/// contradict it, whatever changed about the check.
pub(super) fn forget(service: &mut Service) {
    let probed: BTreeSet<EndpointId> = service.probed().map(|(id, _)| id).collect();
    service.verdicts.retain(|endpoint, _| probed.contains(endpoint));
}

/// How many endpoints are probed.
pub(super) fn probed(state: &State) -> usize {
    state.services.values().map(|service| service.probed().count()).sum()
}
