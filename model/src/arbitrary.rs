//! Strategies for property tests. Names and addresses come from small pools, so that references are often
//! right, often wrong, and often collide.

mod health;
mod service;
mod snat;

use std::collections::BTreeSet;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::command::{Change, Command};
use crate::flow::{FlowKey, FlowKind, FlowRecord, FlowState, FlowVersion};
use crate::ids::{EndpointId, Epoch, GroupId, InstallationId, LogIndex, NodeId, Revision, ServiceId};
use crate::intent::{ClusterSettings, GroupSpec, LeaseProfile, NodeRole, NodeSpec, OnQuorumLoss};
use crate::protocol::Protocol;
use crate::state::{State, apply};

pub use service::{endpoint_spec, service_spec};
pub use snat::snat_rule_spec;

/// A state that a sequence of random commands leads to, with owners assigned now and then as a leader would,
/// and the next free log index.
pub fn state() -> impl Strategy<Value = (State, LogIndex)> {
    vec((command(), any::<u8>()), 0..40).prop_map(|steps| {
        let mut state = State::default();
        let mut index = LogIndex(0);
        let mut next = || {
            index = LogIndex(index.get() + 1);
            index
        };
        for (id, name) in [(1, "a"), (2, "b")] {
            let spec = node(name, NodeRole::Dataplane, id as u8);
            apply(&mut state, next(), &Command::RegisterNode { id: NodeId(id), spec });
        }
        for (command, choice) in steps {
            apply(&mut state, next(), &command);
            if let Some(assign) = assignment(&state, usize::from(choice)) {
                apply(&mut state, next(), &assign);
            }
            if let Some(judge) = health::judge(&state, choice) {
                apply(&mut state, next(), &judge);
            }
        }
        (state, next())
    })
}

/// For half of the choices: a group's next owner.
fn assignment(state: &State, choice: usize) -> Option<Command> {
    let (id, group) = state.groups.iter().nth(choice / 2 % 2).filter(|_| choice.is_multiple_of(2))?;
    let candidates = state.candidates(&group.spec);
    let node = *candidates.get(choice / 4 % candidates.len().max(1))?;
    let replaces = group.assignment.map(|a| a.epoch).unwrap_or_default();
    Some(Command::Assign { group: *id, replaces, node })
}

/// Any command; half of them are refused by most states.
pub fn command() -> impl Strategy<Value = Command> {
    let expected = option::weighted(0.1, (0_u64..50).prop_map(Revision));
    let change = (expected, vec(change(), 1..4));
    prop_oneof![
        4 => change.prop_map(|(expected, changes)| Command::Change { expected, changes }),
        2 => (1_u64..4, node_spec()).prop_map(|(id, spec)| Command::RegisterNode { id: NodeId(id), spec }),
        1 => (address(), 1_u8..70).prop_map(|(address, count)| Command::AllocatePortBlocks { address, count }),
        1 => (address(), any::<u64>())
            .prop_map(|(address, blocks)| Command::ReleasePortBlocks { address, blocks }),
        2 => (0_u64..99, vec(health::judgement(), 0..4))
            .prop_map(|(at_unix_ms, judgements)| Command::Judge { at_unix_ms, judgements }),
        1 => (1_u8..4, node_spec())
            .prop_map(|(n, spec)| Command::AdmitNode { installation: InstallationId([n; 16]), spec }),
        1 => (1_u64..6, any::<bool>()).prop_map(|(id, draining)| Command::DrainNode { id: NodeId(id), draining }),
        1 => (1_u64..6).prop_map(|id| Command::RemoveNode { id: NodeId(id) }),
        2 => (any_group_id(), 0_u64..50, 1_u64..5).prop_map(|(group, replaces, node)| Command::Assign {
            group,
            replaces: Epoch(replaces),
            node: NodeId(node),
        }),
        2 => (any_group_id(), 0_u64..50, nodes(), nodes()).prop_map(|(group, epoch, replaces, nodes)| {
            Command::SetReplicas { group, epoch: Epoch(epoch), replaces, nodes }
        }),
    ]
}

fn nodes() -> impl Strategy<Value = BTreeSet<NodeId>> {
    btree_set((1_u64..5).prop_map(NodeId), 0..3)
}

/// Any change of intent.
pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => group_spec().prop_map(Change::UpsertGroup),
        1 => group_name().prop_map(Change::DeleteGroup),
        5 => service_spec().prop_map(Change::UpsertService),
        1 => service_name().prop_map(Change::DeleteService),
        3 => snat_rule_spec().prop_map(Change::UpsertSnatRule),
        1 => rule_name().prop_map(Change::DeleteSnatRule),
        1 => settings().prop_map(Change::SetCluster),
    ]
}

/// Any settings.
pub fn settings() -> impl Strategy<Value = ClusterSettings> {
    select(vec![LeaseProfile::Fast, LeaseProfile::Lan, LeaseProfile::Wan])
        .prop_map(|lease| ClusterSettings { lease, on_quorum_loss: OnQuorumLoss::Fence })
}

/// A group that is valid by itself.
pub fn group_spec() -> impl Strategy<Value = GroupSpec> {
    let names = |pool: &[&str]| {
        let pool: Vec<String> = pool.iter().map(|s| s.to_string()).collect();
        let most = pool.len();
        subsequence(pool, 0..=most)
    };
    (group_name(), btree_set(address(), 0..3), names(&["eth0", "eth1"]), names(&["a", "b"]), 1_u8..4)
        .prop_map(|(name, addresses, interfaces, nodes, standbys)| GroupSpec {
            name,
            addresses: addresses.into_iter().collect(),
            interfaces,
            nodes,
            standbys,
            failback: false,
        })
}

/// A node that is valid by itself.
pub fn node_spec() -> impl Strategy<Value = NodeSpec> {
    let role = select(vec![NodeRole::Dataplane, NodeRole::Dataplane, NodeRole::Witness]);
    (select(vec!["a", "b", "w"]), role, 1_u8..5).prop_map(|(name, role, host)| node(name, role, host))
}

fn node(name: &str, role: NodeRole, host: u8) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        role,
        cluster_address: SocketAddr::from(([10, 9, 0, host], 7400)),
        lease_address: SocketAddr::from(([10, 9, 0, host], 7401)),
    }
}

/// Any flow.
pub fn flow_record() -> impl Strategy<Value = FlowRecord> {
    use FlowState::{Closed, Closing, Established, New, ResetPending};
    let key = (socket(), socket(), select(Protocol::ALL.to_vec()));
    let ids = any::<(u64, u64, u64)>();
    let state = select(vec![New, Established, Closing, Closed, ResetPending]);
    let places = (socket(), option::of(socket()), select(FlowKind::ALL.to_vec()));
    let rest = (any::<(u64, u64)>(), state, any::<u32>(), any::<u64>());
    (key, ids, places, rest).prop_map(|((client, service, protocol), ids, places, rest)| {
        let (endpoint_address, source, kind) = places;
        let ((birth, n), state, state_bits, remaining) = rest;
        FlowRecord {
            key: FlowKey { client, service, protocol },
            group: GroupId(ids.0),
            service: ServiceId(ids.1),
            endpoint: EndpointId(ids.2),
            endpoint_address,
            source,
            kind,
            version: FlowVersion { birth, n },
            state,
            state_bits,
            remaining: Duration::from_nanos(remaining),
        }
    })
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

fn group_name() -> impl Strategy<Value = String> {
    select(vec!["edge", "core"]).prop_map(String::from)
}

fn service_name() -> impl Strategy<Value = String> {
    select(vec!["web", "dns", "mail"]).prop_map(String::from)
}

fn rule_name() -> impl Strategy<Value = String> {
    select(vec!["egress", "mail", "exempt"]).prop_map(String::from)
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => (1_u8..7).prop_map(|host| IpAddr::from([192, 0, 2, host])),
        1 => (1_u16..4).prop_map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])),
    ]
}

fn any_group_id() -> impl Strategy<Value = GroupId> {
    (1_u64..40, 0_u32..3).prop_map(|(index, n)| GroupId(LogIndex(index).object(n)))
}
