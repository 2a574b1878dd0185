//! Who holds a group's flows.

use super::*;

const GROUP: GroupId = GroupId(LogIndex(5).object(0));

/// Data-plane nodes a, b and c (1, 2, 4), a witness, and a group for any of them, which node a owns since index 6 and holds since 7.
fn owned() -> State {
    let mut state = cluster();
    let spec = NodeSpec {
        name: "c".into(),
        role: NodeRole::Dataplane,
        cluster_address: ([10, 9, 0, 4], 7400).into(),
        lease_address: ([10, 9, 0, 4], 7401).into(),
    };
    let group = GroupSpec { nodes: Vec::new(), ..group("edge", &["192.0.2.10"]) };
    let made = Command::Change { expected: None, changes: vec![Change::UpsertGroup(group)] };
    for (index, command) in [(4, Command::RegisterNode { id: NodeId(4), spec }), (5, made)] {
        let applied = apply(&mut state, LogIndex(index), &command);
        assert!(matches!(applied, Applied::Changed { .. }), "{applied:?}");
    }
    assign(&mut state, 6, 0, 1);
    assert!(matches!(set(&mut state, 7, 6, &[], &[1]), Applied::Changed { .. }));
    state
}

fn assign(state: &mut State, index: u64, replaces: u64, node: u64) {
    let command = Command::Assign { group: GROUP, replaces: Epoch(replaces), node: NodeId(node) };
    assert!(matches!(apply(state, LogIndex(index), &command), Applied::Changed { .. }));
}

fn set(state: &mut State, index: u64, epoch: u64, replaces: &[u64], nodes: &[u64]) -> Applied {
    let numbers = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect();
    let (replaces, nodes) = (numbers(replaces), numbers(nodes));
    apply(
        state,
        LogIndex(index),
        &Command::SetReplicas { group: GROUP, epoch: Epoch(epoch), replaces, nodes },
    )
}

fn held(state: &State) -> Vec<(u64, u64)> {
    state.groups[&GROUP].replicas.iter().map(|(node, since)| (node.get(), since.get())).collect()
}

#[test]
fn an_owner_holds_its_group_and_goes_on_when_another_gets_it() {
    let mut state = owned();
    assert_eq!(held(&state), [(1, 7)]);
    assert!(matches!(set(&mut state, 8, 6, &[1], &[1, 2]), Applied::Changed { .. }));
    assign(&mut state, 9, 6, 2);
    assert_eq!(held(&state), [(1, 7), (2, 8)], "nobody begins anew by a change of owner");
    assign(&mut state, 10, 9, 4);
    assert_eq!(held(&state), [(1, 7), (2, 8), (4, 10)]);
}

#[test]
fn who_leaves_and_comes_back_begins_anew() {
    let mut state = owned();
    for (index, replaces, nodes) in [(8, &[1][..], &[1, 2][..]), (9, &[1, 2], &[1]), (10, &[1], &[1, 2])] {
        assert!(matches!(set(&mut state, index, 6, replaces, nodes), Applied::Changed { .. }));
    }
    assert_eq!(held(&state), [(1, 7), (2, 10)]);
}

#[test]
fn what_was_decided_on_another_state_changes_nothing() {
    let mut state = owned();
    set(&mut state, 8, 6, &[1], &[1, 2]);
    let before = state.clone();
    for (epoch, replaces, nodes) in
        [(5, &[1, 2][..], &[1, 4][..]), (6, &[1], &[1, 4]), (6, &[1, 2], &[1, 2]), (7, &[1, 2], &[1])]
    {
        let applied = set(&mut state, 9, epoch, replaces, nodes);
        assert!(matches!(applied, Applied::Unchanged { .. }), "{epoch} {replaces:?} {nodes:?}: {applied:?}");
        assert_eq!(state, before);
    }
}

#[test]
fn a_set_without_the_owner_or_with_a_stranger_is_refused() {
    let mut state = owned();
    let before = state.clone();
    for (nodes, named) in
        [(&[2][..], "its owner, node 1, among them"), (&[1, 3], "a, b, c"), (&[1, 9], "a, b, c")]
    {
        let Applied::Refused(refusal) = set(&mut state, 8, 6, &[1], nodes) else {
            panic!("{nodes:?} was taken")
        };
        let said = refusal.to_string();
        assert!(said.contains("group/edge: replicas") && said.contains(named), "{said}");
        assert_eq!(state, before);
    }
}

#[test]
fn a_node_that_has_left_holds_nothing() {
    let mut state = owned();
    set(&mut state, 8, 6, &[1], &[1, 2]);
    let left = apply(&mut state, LogIndex(9), &Command::RemoveNode { id: NodeId(2) });
    assert!(matches!(left, Applied::Changed { .. }), "{left:?}");
    assert_eq!(held(&state), [(1, 7)]);
}

#[test]
fn i1_a_group_of_a_log_without_replicas_has_none_until_they_are_named() {
    let mut state = owned();
    state.groups.get_mut(&GROUP).expect("it was made").replicas.clear();
    assign(&mut state, 8, 6, 2);
    assert_eq!(
        held(&state),
        [],
        "who applied the first assignment before replicas were known, and who did after"
    );
    assert!(matches!(set(&mut state, 9, 8, &[], &[1, 2]), Applied::Changed { .. }));
    assert_eq!(held(&state), [(1, 9), (2, 9)]);
}
