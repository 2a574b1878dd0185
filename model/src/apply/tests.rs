mod blocks;
mod health;
mod nodes;
mod replicas;
mod services;
mod snat;

use std::net::IpAddr;

use proptest::prelude::*;

use crate::arbitrary;
use crate::command::{Change, Command};
use crate::ids::{Epoch, GroupId, LogIndex, NodeId, Revision};
use crate::intent::{EndpointSpec, GroupSpec, NodeRole, NodeSpec, OnMiss, PortRange, ServiceSpec};
use crate::manifest;
use crate::state::{Applied, Refusal, State, apply};

/// Three registered nodes: a, b and the witness w. The next index is 4.
fn cluster() -> State {
    let mut state = State::default();
    for (id, name, role) in
        [(1, "a", NodeRole::Dataplane), (2, "b", NodeRole::Dataplane), (3, "w", NodeRole::Witness)]
    {
        let host = id as u8;
        let spec = NodeSpec {
            name: name.into(),
            role,
            cluster_address: ([10, 9, 0, host], 7400).into(),
            lease_address: ([10, 9, 0, host], 7401).into(),
        };
        let applied = apply(&mut state, LogIndex(id), &Command::RegisterNode { id: NodeId(id), spec });
        assert!(matches!(applied, Applied::Changed { revision: Revision(0), .. }), "{applied:?}");
    }
    state
}

fn group(name: &str, addresses: &[&str]) -> GroupSpec {
    GroupSpec {
        name: name.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        interfaces: Vec::new(),
        nodes: vec!["a".into(), "b".into()],
        standbys: 1,
        failback: false,
    }
}

fn service(name: &str, group: &str, vip: &str, port: u16) -> ServiceSpec {
    let endpoint = |host| EndpointSpec {
        address: ([10, 0, 0, host], 8443).into(),
        weight: 100,
        state: Default::default(),
        backup: false,
    };
    ServiceSpec {
        name: name.into(),
        group: group.into(),
        vip: vec![vip.parse().unwrap()],
        port: PortRange::single(port),
        protocol: vec![crate::protocol::Protocol::Tcp],
        algorithm: Default::default(),
        affinity: None,
        mode: Default::default(),
        snat_pool: Vec::new(),
        timeouts: Default::default(),
        sync: Default::default(),
        on_miss: OnMiss::Drop,
        sources: Vec::new(),
        limits: Default::default(),
        slow_start: None,
        health: None,
        endpoints: vec![endpoint(11), endpoint(12)],
    }
}

fn change(state: &mut State, index: u64, changes: Vec<Change>) -> Applied {
    apply(state, LogIndex(index), &Command::Change { expected: None, changes })
}

#[track_caller]
fn accepted(applied: Applied) -> Vec<String> {
    match applied {
        Applied::Changed { lines, .. } => lines,
        other => panic!("not changed: {other:?}"),
    }
}

#[track_caller]
fn refused(state: &mut State, index: u64, changes: Vec<Change>) -> String {
    let before = state.clone();
    match change(state, index, changes) {
        Applied::Refused(refusal) => {
            assert_eq!(*state, before, "a refused command leaves no trace");
            refusal.to_string()
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn assign(state: &mut State, index: u64, group: GroupId, replaces: u64, node: u64) -> Applied {
    let (replaces, node) = (Epoch(replaces), NodeId(node));
    apply(state, LogIndex(index), &Command::Assign { group, replaces, node })
}

/// A cluster with group `edge` (floating 10.0.0.1), service `web` on 192.0.2.10:443, and an owner.
fn serving() -> (State, GroupId) {
    let mut state = cluster();
    let changes = vec![
        Change::UpsertService(service("web", "edge", "192.0.2.10", 443)),
        Change::UpsertGroup(group("edge", &["10.0.0.1"])),
    ];
    let lines = accepted(change(&mut state, 4, changes));
    assert_eq!(lines, ["service/web created", "group/edge created"]);
    let (edge, _) = state.group("edge").unwrap();
    accepted(assign(&mut state, 5, edge, 0, 1));
    (state, edge)
}

#[test]
fn a_service_may_stand_before_its_group_in_one_change() {
    let (state, edge) = serving();
    let (_, web) = state.service("web").unwrap();
    assert_eq!(web.group, edge);
    assert_eq!(state.revision, Revision(4), "an assignment is no change of intent");
    assert_eq!(state.groups[&edge].assignment.unwrap().epoch, Epoch(5));
}

#[test]
fn an_unchanged_object_keeps_the_revision() {
    let (mut state, _) = serving();
    let before = state.clone();
    let changes = vec![Change::UpsertService(service("web", "edge", "192.0.2.10", 443))];
    let applied = change(&mut state, 9, changes);
    let lines = vec!["service/web unchanged".into()];
    assert_eq!(applied, Applied::Unchanged { revision: Revision(4), lines });
    assert_eq!(state, before);
}

#[test]
fn endpoints_keep_their_ids_and_new_ones_never_get_an_old_one() {
    let (mut state, _) = serving();
    let before = state.service("web").unwrap().1.clone();

    let mut spec = service("web", "edge", "192.0.2.10", 443);
    spec.endpoints.reverse();
    spec.endpoints[0].weight = 7;
    accepted(change(&mut state, 6, vec![Change::UpsertService(spec.clone())]));
    let ids = state.service("web").unwrap().1.endpoint_ids.clone();
    assert_eq!(ids, [before.endpoint_ids[1], before.endpoint_ids[0]]);

    let gone = spec.endpoints.pop().unwrap();
    accepted(change(&mut state, 7, vec![Change::UpsertService(spec.clone())]));
    spec.endpoints.push(gone);
    accepted(change(&mut state, 8, vec![Change::UpsertService(spec)]));
    let again = state.service("web").unwrap().1.endpoint_ids.clone();
    assert_eq!(again[0], ids[0]);
    assert!(!before.endpoint_ids.contains(&again[1]), "an endpoint that comes back is another one");
}

#[test]
fn references_and_collisions_are_refused_by_name() {
    let (mut state, _) = serving();
    let missing = refused(&mut state, 6, vec![Change::UpsertService(service("x", "nope", "192.0.2.11", 1))]);
    assert_eq!(missing, "service/x: spec.group: nope: allowed an existing group: edge");

    let taken = refused(&mut state, 6, vec![Change::UpsertGroup(group("core", &["10.0.0.1"]))]);
    assert!(taken.contains("10.0.0.1") && taken.contains("group/edge has this one"), "{taken}");

    let frontend =
        refused(&mut state, 6, vec![Change::UpsertService(service("x", "edge", "192.0.2.10", 443))]);
    assert!(frontend.contains("service/web has this one"), "{frontend}");

    let used = refused(&mut state, 6, vec![Change::DeleteGroup("edge".into())]);
    assert!(used.contains("once no service names it; these do: web"), "{used}");

    let absent = refused(&mut state, 6, vec![Change::DeleteService("nope".into())]);
    assert_eq!(absent, "service \"nope\" does not exist");

    let mut witness = group("core", &[]);
    witness.nodes = vec!["w".into()];
    let witness = refused(&mut state, 6, vec![Change::UpsertGroup(witness)]);
    assert_eq!(witness, "group/core: spec.nodes[0]: w: allowed the data-plane nodes: a, b");

    let twice = vec![Change::DeleteService("web".into()), Change::DeleteService("web".into())];
    assert!(refused(&mut state, 6, twice).contains("service/web: named twice"));

    let mut half = service("x", "edge", "192.0.2.11", 1);
    half.endpoints[1].weight = 1001;
    let first = Change::UpsertGroup(group("core", &[]));
    let weight = refused(&mut state, 6, vec![first, Change::UpsertService(half)]);
    assert_eq!(weight, "service/x: spec.endpoints[1].weight: 1001: allowed 0-1000");
}

#[test]
fn an_expected_revision_that_is_not_current_is_a_conflict() {
    let (mut state, _) = serving();
    let command = |expected| Command::Change {
        expected: Some(Revision(expected)),
        changes: vec![Change::DeleteService("web".into())],
    };
    let conflict = Refusal::Conflict { expected: Revision(3), current: Revision(4) };
    assert_eq!(apply(&mut state, LogIndex(6), &command(3)), Applied::Refused(conflict));
    accepted(apply(&mut state, LogIndex(7), &command(4)));
}

#[test]
fn an_assignment_that_lost_its_race_changes_nothing() {
    let (mut state, edge) = serving();
    let before = state.clone();
    assert!(matches!(assign(&mut state, 6, edge, 0, 2), Applied::Unchanged { .. }));
    assert_eq!(state, before);
    assert!(
        matches!(assign(&mut state, 7, edge, 5, 3), Applied::Refused(Refusal::Invalid { .. })),
        "witness"
    );
    assert!(matches!(assign(&mut state, 7, edge, 5, 9), Applied::Refused(Refusal::NotFound { .. })));
    assert!(matches!(assign(&mut state, 7, GroupId(1), 0, 1), Applied::Refused(Refusal::NotFound { .. })));
    assert_eq!(state, before);
    accepted(assign(&mut state, 8, edge, 5, 2));
    assert_eq!(state.groups[&edge].assignment.unwrap().node, NodeId(2));
}

#[test]
fn two_nodes_cannot_have_one_name() {
    let mut state = cluster();
    let spec = state.nodes[&NodeId(1)].clone();
    let applied = apply(&mut state, LogIndex(4), &Command::RegisterNode { id: NodeId(2), spec });
    assert!(matches!(applied, Applied::Refused(Refusal::Invalid { .. })), "{applied:?}");
}

#[test]
fn i3_an_address_changes_groups_only_with_a_higher_epoch_of_its_old_group() {
    let (mut state, edge) = serving();
    let vip: IpAddr = "192.0.2.10".parse().unwrap();
    accepted(change(&mut state, 6, vec![Change::UpsertGroup(group("core", &[]))]));
    let (core, _) = state.group("core").unwrap();
    accepted(assign(&mut state, 7, core, 0, 2));

    accepted(change(&mut state, 8, vec![Change::UpsertService(service("web", "core", "192.0.2.10", 443))]));
    assert_eq!(state.released[&vip].by, edge);
    assert_eq!(state.released[&vip].index, LogIndex(8));
    let assignment = state.groups[&edge].assignment.unwrap();
    assert_eq!((assignment.epoch, assignment.node), (Epoch(8), NodeId(1)));
    assert_eq!(state.groups[&core].assignment.unwrap().epoch, Epoch(7), "the taker goes on");
}

#[test]
fn i3_an_address_that_was_free_for_a_while_still_raises_the_epoch_when_it_is_taken() {
    let (mut state, edge) = serving();
    let vip: IpAddr = "192.0.2.10".parse().unwrap();
    accepted(change(&mut state, 6, vec![Change::DeleteService("web".into())]));
    assert_eq!(state.released[&vip].index, LogIndex(6));
    assert_eq!(state.groups[&edge].assignment.unwrap().epoch, Epoch(5), "nobody else has it yet");

    accepted(change(&mut state, 9, vec![Change::UpsertGroup(group("core", &["192.0.2.10"]))]));
    assert_eq!(state.released[&vip].index, LogIndex(9));
    assert_eq!(state.groups[&edge].assignment.unwrap().epoch, Epoch(9));
}

#[test]
fn pruning_deletes_what_a_manifest_does_not_name() {
    let (mut state, _) = serving();
    let mut changes = vec![Change::UpsertGroup(group("core", &[]))];
    changes.extend(manifest::prune(&state, &changes));
    let lines = accepted(change(&mut state, 6, changes));
    assert_eq!(lines, ["group/core created", "service/web deleted", "group/edge deleted"]);
    assert!(state.services.is_empty());
    assert_eq!(state.released.len(), 2);
}

/// What holds in every state that `apply` can reach.
fn check_invariants(state: &State) {
    for service in state.services.values() {
        assert_eq!(service.spec.endpoints.len(), service.endpoint_ids.len());
        assert_eq!(state.groups[&service.group].spec.name, service.spec.group);
    }
    let mut ids: Vec<u64> = state.services.values().flat_map(|s| &s.endpoint_ids).map(|e| e.get()).collect();
    ids.extend(state.services.keys().map(|id| id.get()));
    ids.extend(state.groups.keys().map(|id| id.get()));
    ids.extend(state.snat_rules.keys().map(|id| id.get()));
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "ids are unique across kinds");

    let listed = state.groups.iter().flat_map(|(id, g)| g.spec.addresses.iter().map(|a| (*a, *id)));
    let vips = state.services.values().flat_map(|s| s.spec.vip.iter().map(|a| (*a, s.group)));
    let rules = state.snat_rules.values();
    let translated = rules.flat_map(|r| r.spec.action.addresses().iter().map(|a| (*a, r.group)));
    let owners = state.addresses();
    for (address, group) in listed.chain(vips).chain(translated) {
        assert_eq!(owners[&address], group, "an address belongs to one group");
    }
    for (address, blocks) in &state.port_blocks {
        assert!(owners.contains_key(address), "blocks of no group's address {address}");
        assert!(*blocks != 0 && blocks & 1 == 0, "{address} has blocks {blocks:x}");
    }
    for address in state.snat_sources() {
        assert!(state.port_blocks.contains_key(&address), "{address} has no blocks");
    }
    // Whoever had an address that another group has now lost its old epoch no later than the taker got it.
    for (address, released) in &state.released {
        let taker = owners.get(address).filter(|taker| **taker != released.by);
        if let (Some(_), Some(loser)) = (taker, state.groups.get(&released.by)) {
            assert!(loser.assignment.is_none_or(|a| a.epoch.get() >= released.index.get()));
        }
    }
}

proptest! {
    #[test]
    fn applying_is_deterministic_and_a_refusal_leaves_no_trace(
        (mut state, index) in arbitrary::state(),
        command in arbitrary::command(),
    ) {
        check_invariants(&state);
        let before = state.clone();
        let mut twin = state.clone();
        let applied = apply(&mut state, index, &command);
        prop_assert_eq!(&applied, &apply(&mut twin, index, &command));
        prop_assert_eq!(&state, &twin);
        check_invariants(&state);
        match applied {
            Applied::Changed { revision, .. } => prop_assert_eq!(revision, state.revision),
            Applied::Unchanged { .. } | Applied::Refused(_) => prop_assert_eq!(&state, &before),
        }
        let repeatable = matches!(&command, Command::Change { expected: None, changes }
            if changes.iter().all(|c| !matches!(c, Change::DeleteGroup(_) | Change::DeleteService(_) | Change::DeleteSnatRule(_))));
        if repeatable && state != before {
            let after = state.clone();
            let again = apply(&mut state, LogIndex(index.get() + 1), &command);
            let unchanged = matches!(again, Applied::Unchanged { .. });
            prop_assert!(unchanged, "applying twice is applying once: {:?}", again);
            prop_assert_eq!(&state, &after);
        }
    }
}
