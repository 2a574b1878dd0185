use super::*;
use crate::health::{Failure, FailureKind, Judgement};
use crate::ids::EndpointId;
use crate::image::{EndpointImage, desired};
use crate::intent::{AllDown, EndpointState, HealthCheck, Probe};
use crate::limits::{MAX_JUDGEMENTS, MAX_PROBED_ENDPOINTS};

fn checked(all_down: AllDown) -> ServiceSpec {
    let health = HealthCheck {
        probe: Probe::Tcp,
        port: 0,
        interval: HealthCheck::INTERVAL,
        timeout: HealthCheck::TIMEOUT,
        rise: HealthCheck::RISE,
        fall: HealthCheck::FALL,
        all_down,
    };
    ServiceSpec { health: Some(Box::new(health)), ..service("web", "edge", "192.0.2.10", 443) }
}

fn with_check(all_down: AllDown) -> (State, Vec<EndpointId>) {
    let (mut state, _) = serving();
    accepted(change(&mut state, 6, vec![Change::UpsertService(checked(all_down))]));
    let ids = state.service("web").unwrap().1.endpoint_ids.clone();
    (state, ids)
}

fn judgement(state: &State, endpoint: EndpointId, up: bool) -> Judgement {
    let (id, service) = state.service("web").unwrap();
    let failure = Some(Failure::of(FailureKind::Refused));
    let nodes = [NodeId(1), NodeId(2)].into();
    Judgement { service: id, revision: service.revision, endpoint, up, failure, nodes }
}

fn judge(state: &mut State, index: u64, endpoint: EndpointId, up: bool) -> Applied {
    let judgements = vec![judgement(state, endpoint, up)];
    apply(state, LogIndex(index), &Command::Judge { at_unix_ms: 99, judgements })
}

/// Where new flows go.
fn taking(state: &State) -> Vec<EndpointId> {
    let image = desired(state, NodeId(1));
    image.services[0].eligible().iter().map(|endpoint: &EndpointImage| endpoint.id).collect()
}

#[test]
fn i9_an_endpoint_takes_flows_until_it_is_judged_down_and_keeps_those_it_has() {
    let (mut state, ids) = with_check(AllDown::ServeNone);
    assert_eq!(taking(&state), ids, "nothing is known: up");
    let before = state.revision;
    assert_eq!(accepted(judge(&mut state, 7, ids[0], false)), ["service/web endpoint 10.0.0.11:8443 down"]);
    assert_eq!(taking(&state), [ids[1]]);
    assert_eq!(state.revision, before, "a verdict is no intent");
    let verdict = state.service("web").unwrap().1.verdicts[&ids[0]].clone();
    assert_eq!((verdict.index, verdict.at_unix_ms, verdict.nodes.len()), (LogIndex(7), 99, 2));
    assert_eq!(verdict.failure.unwrap().to_string(), "refused");
    assert_eq!(desired(&state, NodeId(1)).services[0].endpoints.len(), 2, "its flows need it");

    let again = judge(&mut state, 8, ids[0], false);
    assert!(matches!(again, Applied::Unchanged { .. }), "{again:?}");
    assert_eq!(state.service("web").unwrap().1.verdicts[&ids[0]], verdict, "since when stays");

    accepted(judge(&mut state, 9, ids[0], true));
    assert_eq!(taking(&state), ids);
    assert_eq!(state.service("web").unwrap().1.verdicts[&ids[0]].failure, None);
}

#[test]
fn when_all_are_down_nobody_or_everybody_takes_flows() {
    let (mut state, ids) = with_check(AllDown::ServeNone);
    ids.iter().for_each(|id| drop(judge(&mut state, 7, *id, false)));
    assert_eq!(taking(&state), []);
    let (mut state, ids) = with_check(AllDown::ServeAll);
    accepted(judge(&mut state, 7, ids[0], false));
    assert_eq!(taking(&state), [ids[1]], "one is left");
    accepted(judge(&mut state, 8, ids[1], false));
    assert_eq!(taking(&state), ids);
}

#[test]
fn backups_serve_when_every_primary_is_down() {
    for all_down in [AllDown::ServeNone, AllDown::ServeAll] {
        let (mut state, ids) = with_check(all_down);
        let mut spec = checked(all_down);
        spec.endpoints[1].backup = true;
        accepted(change(&mut state, 7, vec![Change::UpsertService(spec)]));
        assert_eq!(taking(&state), [ids[0]]);
        accepted(judge(&mut state, 8, ids[0], false));
        assert_eq!(taking(&state), [ids[1]]);
        accepted(judge(&mut state, 9, ids[1], false));
        let expected = if all_down == AllDown::ServeAll { vec![ids[0]] } else { vec![] };
        assert_eq!(taking(&state), expected, "then it is the primaries' again");
    }
}

#[test]
fn a_verdict_on_what_has_changed_or_is_not_probed_is_a_no_op() {
    let (mut state, ids) = with_check(AllDown::ServeNone);
    let late = judgement(&state, ids[0], false);
    let mut spec = checked(AllDown::ServeNone);
    spec.endpoints[1].state = EndpointState::Disabled;
    accepted(change(&mut state, 7, vec![Change::UpsertService(spec)]));
    let before = state.clone();
    let disabled = judgement(&state, ids[1], false);
    let unknown = judgement(&state, EndpointId(1), false);
    let judgements = vec![late, disabled, unknown];
    let applied = apply(&mut state, LogIndex(8), &Command::Judge { at_unix_ms: 1, judgements });
    assert!(matches!(applied, Applied::Unchanged { .. }), "{applied:?}");
    assert_eq!(state, before);
}

#[test]
fn a_verdict_outlives_a_change_of_the_check_and_goes_with_what_it_is_about() {
    let (mut state, ids) = with_check(AllDown::ServeNone);
    ids.iter().for_each(|id| drop(judge(&mut state, 7, *id, false)));
    let mut spec = checked(AllDown::ServeNone);
    spec.health.as_mut().unwrap().rise = 9;
    accepted(change(&mut state, 8, vec![Change::UpsertService(spec.clone())]));
    assert_eq!(taking(&state), [], "nobody has seen an answer");
    spec.endpoints[0].state = EndpointState::Disabled;
    accepted(change(&mut state, 9, vec![Change::UpsertService(spec.clone())]));
    spec.endpoints[0].state = EndpointState::Active;
    accepted(change(&mut state, 10, vec![Change::UpsertService(spec.clone())]));
    assert_eq!(taking(&state), [ids[0]], "it gets another chance");
    spec.endpoints.pop();
    accepted(change(&mut state, 11, vec![Change::UpsertService(spec)]));
    assert!(state.service("web").unwrap().1.verdicts.is_empty());
    accepted(judge(&mut state, 12, ids[0], false));
    let unchecked = service("web", "edge", "192.0.2.10", 443);
    accepted(change(&mut state, 13, vec![Change::UpsertService(unchecked)]));
    assert!(state.service("web").unwrap().1.verdicts.is_empty());
    assert_eq!(taking(&state)[0], ids[0]);
}

#[test]
fn i13_verdicts_of_a_command_and_probed_endpoints_are_bounded() {
    let (mut state, ids) = with_check(AllDown::ServeNone);
    let judgements = vec![judgement(&state, ids[0], false); MAX_JUDGEMENTS + 1];
    let applied = apply(&mut state, LogIndex(7), &Command::Judge { at_unix_ms: 1, judgements });
    assert!(matches!(applied, Applied::Refused(_)), "{applied:?}");

    let many = |n: u16| {
        let mut spec = ServiceSpec { name: format!("s{n}"), ..checked(AllDown::ServeNone) };
        spec.port = PortRange::single(1000 + n);
        let endpoint = |i: u16| EndpointSpec {
            address: ([10, 1, (i >> 8) as u8, i as u8], 80).into(),
            ..spec.endpoints[0].clone()
        };
        spec.endpoints = (0..1024).map(endpoint).collect();
        Change::UpsertService(spec)
    };
    // `web` has two.
    let full = MAX_PROBED_ENDPOINTS as u16 / 1024 - 1;
    accepted(change(&mut state, 8, (0..full).map(many).collect()));
    let error = refused(&mut state, 9, vec![many(full)]);
    assert!(error.starts_with("endpoints with health checks: 16386: allowed at most 16384"), "{error}");
}
