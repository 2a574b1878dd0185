//! Nodes join and leave.

use super::*;
use crate::ids::InstallationId;

const FIRST: InstallationId = InstallationId([1; 16]);
const SECOND: InstallationId = InstallationId([2; 16]);

fn spec(name: &str, host: u8) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        role: NodeRole::Dataplane,
        cluster_address: ([10, 9, 0, host], 7400).into(),
        lease_address: ([10, 9, 0, host], 7401).into(),
    }
}

fn admit(state: &mut State, installation: InstallationId, spec: NodeSpec) -> Applied {
    apply(state, LogIndex(10), &Command::AdmitNode { installation, spec })
}

fn remove(state: &mut State, id: u64) -> Applied {
    apply(state, LogIndex(11), &Command::RemoveNode { id: NodeId(id) })
}

fn refusal(applied: Applied) -> String {
    match applied {
        Applied::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_node_that_joins_gets_the_next_number_and_the_same_one_again() {
    let mut state = cluster();
    assert!(matches!(admit(&mut state, FIRST, spec("c", 4)), Applied::Changed { .. }));
    assert_eq!(state.node("c").map(|(id, _)| id), Some(NodeId(4)));
    let once = state.clone();
    assert!(matches!(admit(&mut state, FIRST, spec("c", 4)), Applied::Unchanged { .. }));
    assert_eq!(state, once);
    assert!(matches!(admit(&mut state, FIRST, spec("c", 9)), Applied::Changed { .. }), "it has moved");
    assert_eq!(state.node("c"), Some((NodeId(4), &spec("c", 9))));
}

#[test]
fn a_name_or_address_that_another_installation_has_is_refused() {
    let mut state = cluster();
    admit(&mut state, FIRST, spec("c", 4));
    let before = state.clone();
    let text = refusal(admit(&mut state, SECOND, spec("c", 5)));
    assert!(text.contains("node 4 has this one") && text.contains("cluster leave c"), "{text}");
    let text = refusal(admit(&mut state, SECOND, spec("d", 4)));
    assert!(text.contains("cluster_address") && text.contains("10.9.0.4:7400"), "{text}");
    // One that `cluster init` made has no installation on record: its name is taken all the same.
    let text = refusal(admit(&mut state, SECOND, spec("b", 2)));
    assert!(text.contains("node 2 has this one"), "{text}");
    assert_eq!(state, before);
}

#[test]
fn the_number_of_a_node_that_left_is_never_used_again() {
    let mut state = cluster();
    admit(&mut state, FIRST, spec("c", 4));
    assert!(matches!(remove(&mut state, 4), Applied::Changed { .. }));
    assert!(matches!(remove(&mut state, 3), Applied::Changed { .. }));
    for id in [3, 4] {
        let again = Command::RegisterNode { id: NodeId(id), spec: spec("c", 4) };
        let text = refusal(apply(&mut state, LogIndex(12), &again));
        assert!(text.contains("data directory"), "{text}");
    }
    admit(&mut state, SECOND, spec("c", 4));
    assert_eq!(state.node("c").map(|(id, _)| id), Some(NodeId(5)));
    let text = refusal(remove(&mut state, 4));
    assert!(text.contains("does not exist"), "{text}");
}

#[test]
fn an_owner_is_not_removed() {
    let mut state = cluster();
    let changes = vec![Change::UpsertGroup(group("edge", &["10.0.0.1"]))];
    apply(&mut state, LogIndex(4), &Command::Change { expected: None, changes });
    let id = state.group("edge").expect("it was made").0;
    apply(&mut state, LogIndex(5), &Command::Assign { group: id, replaces: Epoch(0), node: NodeId(2) });
    let before = state.clone();
    let text = refusal(remove(&mut state, 2));
    assert!(text.contains("edge") && text.contains("hands over first"), "{text}");
    assert_eq!(state, before);
    assert!(matches!(remove(&mut state, 1), Applied::Changed { .. }), "the other owns nothing");
}

#[test]
fn a_new_cluster_keeps_the_intent_and_nobody_of_the_old_one() {
    let mut state = cluster();
    let changes = vec![Change::UpsertGroup(group("edge", &["10.0.0.1"]))];
    apply(&mut state, LogIndex(4), &Command::Change { expected: None, changes });
    let id = state.group("edge").expect("it was made").0;
    apply(&mut state, LogIndex(5), &Command::Assign { group: id, replaces: Epoch(0), node: NodeId(2) });
    let before = state.clone();
    state.refound();
    assert!(state.nodes.is_empty() && state.groups[&id].assignment.is_none());
    assert_eq!(
        (state.groups[&id].spec.clone(), state.revision),
        (before.groups[&id].spec.clone(), before.revision)
    );
    let again = Command::RegisterNode { id: NodeId(3), spec: spec("a", 1) };
    refusal(apply(&mut state, LogIndex(6), &again));
    let new = Command::RegisterNode { id: NodeId(4), spec: spec("a", 1) };
    assert!(matches!(apply(&mut state, LogIndex(6), &new), Applied::Changed { .. }));
}

fn drain(state: &mut State, id: u64, draining: bool) -> Applied {
    apply(state, LogIndex(12), &Command::DrainNode { id: NodeId(id), draining })
}

#[test]
fn a_drained_node_stays_so_until_it_is_undrained_or_removed() {
    let mut state = cluster();
    let revision = state.revision;
    assert!(matches!(drain(&mut state, 2, true), Applied::Changed { revision: r, .. } if r == revision));
    assert!(state.draining.contains(&NodeId(2)));
    assert!(matches!(drain(&mut state, 2, true), Applied::Unchanged { .. }));
    // It registers again when it starts again.
    let spec = state.nodes[&NodeId(2)].clone();
    apply(&mut state, LogIndex(13), &Command::RegisterNode { id: NodeId(2), spec });
    assert!(state.draining.contains(&NodeId(2)));
    assert!(matches!(drain(&mut state, 2, false), Applied::Changed { .. }));
    assert!(state.draining.is_empty());

    drain(&mut state, 2, true);
    remove(&mut state, 2);
    assert!(state.draining.is_empty());
}

#[test]
fn only_a_data_plane_node_that_is_there_is_drained() {
    let mut state = cluster();
    let witness = NodeSpec { role: NodeRole::Witness, ..spec("w", 9) };
    admit(&mut state, FIRST, witness);
    let (id, _) = state.node("w").unwrap();
    let before = state.clone();
    assert!(refusal(drain(&mut state, id.get(), true)).contains("a witness owns nothing"));
    assert!(refusal(drain(&mut state, 77, true)).contains("77"));
    assert_eq!(state, before);
}
