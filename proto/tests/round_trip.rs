//! What is encoded and decoded is what it was, and what is incomplete is refused by the name of its field.

use lockstep_model::arbitrary;
use lockstep_model::command::Command;
use lockstep_model::flow::FlowRecord;
use lockstep_model::ids::LogIndex;
use lockstep_model::state::{Applied, State, apply};
use lockstep_proto::convert::ConvertError;
use lockstep_proto::types::v1 as pb;
use proptest::prelude::*;
use prost::Message;

fn through_bytes<W: Message + Default>(wire: W) -> W {
    W::decode(wire.encode_to_vec().as_slice()).expect("it was encoded just now")
}

proptest! {
    #[test]
    fn states((state, _) in arbitrary::state()) {
        prop_assert_eq!(State::try_from(through_bytes(pb::State::from(&state))), Ok(state));
    }

    #[test]
    fn commands(command in arbitrary::command()) {
        prop_assert_eq!(Command::try_from(through_bytes(pb::Command::from(&command))), Ok(command));
    }

    #[test]
    fn answers((mut state, index) in arbitrary::state(), command in arbitrary::command()) {
        let applied = apply(&mut state, index, &command);
        prop_assert_eq!(Applied::try_from(through_bytes(pb::Applied::from(&applied))), Ok(applied));
    }

    #[test]
    fn flows(record in arbitrary::flow_record()) {
        prop_assert_eq!(FlowRecord::try_from(through_bytes(pb::FlowRecord::from(&record))), Ok(record));
    }

    /// A snapshot must not depend on which replica wrote it.
    #[test]
    fn equal_states_have_equal_bytes((state, index) in arbitrary::state(), command in arbitrary::command()) {
        let (mut one, mut two) = (state.clone(), state);
        apply(&mut one, index, &command);
        apply(&mut two, index, &command);
        prop_assert_eq!(pb::State::from(&one).encode_to_vec(), pb::State::from(&two).encode_to_vec());
    }
}

#[track_caller]
fn refused<M: std::fmt::Debug>(result: Result<M, ConvertError>) -> String {
    result.expect_err("it is incomplete").to_string()
}

fn service() -> pb::Service {
    let endpoint = pb::EndpointSpec {
        address: Some(pb::SocketAddress { address: vec![10, 0, 0, 11], port: 8443 }),
        weight: 1,
        state: pb::EndpointState::Active.into(),
        backup: false,
    };
    let spec = pb::ServiceSpec {
        name: "web".into(),
        group: "edge".into(),
        vip: vec![vec![192, 0, 2, 10]],
        port: 443,
        protocol: vec![pb::Protocol::Tcp.into()],
        algorithm: pb::Algorithm::Maglev.into(),
        sync: pb::SyncPolicy::Immediate.into(),
        endpoints: vec![endpoint],
        ..Default::default()
    };
    pb::Service { id: 1, spec: Some(spec), endpoint_ids: vec![2], group: 3, revision: 4, verdicts: vec![] }
}

#[test]
fn errors_name_the_field() {
    let state = |change: &dyn Fn(&mut pb::Service)| {
        let mut service = service();
        change(&mut service);
        let settings = Some((&lockstep_model::intent::ClusterSettings::default()).into());
        State::try_from(pb::State { settings, services: vec![service], ..Default::default() })
    };
    let endpoint = |service: &mut pb::Service| service.spec.as_mut().unwrap().endpoints.pop().unwrap();
    let with = |service: &mut pb::Service, endpoint| service.spec.as_mut().unwrap().endpoints.push(endpoint);

    assert!(state(&|_| ()).is_ok());
    assert_eq!(refused(state(&|s| s.spec = None)), "services[0].spec: missing");
    assert_eq!(
        refused(state(&|s| s.spec.as_mut().unwrap().port = 70000)),
        "services[0].spec.port: 70000 is not in 0-65535"
    );
    assert_eq!(
        refused(state(&|s| s.spec.as_mut().unwrap().vip[0] = vec![1, 2, 3])),
        "services[0].spec.vip[0]: an address of 3 bytes; allowed: 4 or 16"
    );
    assert_eq!(
        refused(state(&|s| {
            let weight = endpoint(s);
            with(s, pb::EndpointSpec { weight: 1001, ..weight });
        })),
        "services[0].spec.endpoints[0].weight: 1001 is not in 0-1000"
    );
    assert_eq!(
        refused(state(&|s| s.spec.as_mut().unwrap().protocol[0] = 9)),
        "services[0].spec.protocol[0]: unknown value 9"
    );
    assert_eq!(
        refused(state(&|s| s.spec.as_mut().unwrap().algorithm = 0)),
        "services[0].spec.algorithm: missing"
    );
    assert_eq!(
        refused(state(&|s| s.endpoint_ids.clear())),
        "services[0].endpoint_ids: 0 elements, expected 1"
    );
    assert_eq!(refused(State::try_from(pb::State::default())), "settings: missing");
    assert_eq!(refused(Command::try_from(pb::Command::default())), "command: missing");

    let twice = pb::State {
        settings: Some((&lockstep_model::intent::ClusterSettings::default()).into()),
        services: vec![service(), service()],
        ..Default::default()
    };
    assert_eq!(refused(State::try_from(twice)), "services: 1 occurs twice");
}

#[test]
fn the_log_index_in_an_id_survives() {
    let id = LogIndex(1 << 40).object(7);
    let wire = pb::Assign { group: id, replaces: 1, node: 2 };
    assert_eq!(through_bytes(wire).group, id);
}

/// What an earlier version wrote means what that version did, or what a manifest that does not say it means.
#[test]
fn a_service_of_a_version_without_the_new_fields_has_the_defaults() {
    use lockstep_model::intent::{Limits, Mode, OnMiss, PortRange, ServiceSpec, SyncPolicy, Timeouts};
    let old = service().spec.unwrap();
    // Nothing of it is on the wire: these are the bytes that the earlier version wrote.
    assert_eq!(
        old.encode_to_vec(),
        b"\x0a\x03web\x12\x04edge\x1a\x04\xc0\x00\x02\x0a\x20\xbb\x03\x2a\x01\x01\x30\x01\x38\x01\
          \x42\x0f\x0a\x09\x0a\x04\x0a\x00\x00\x0b\x10\xfb\x41\x10\x01\x18\x01"
    );
    let spec = ServiceSpec::try_from(through_bytes(old.clone())).unwrap();
    assert_eq!(spec.port, PortRange::single(443));
    assert_eq!((spec.mode, spec.sync, spec.on_miss), (Mode::Nat, SyncPolicy::Immediate, OnMiss::Recover));
    assert_eq!((spec.timeouts, spec.limits), (Timeouts::default(), Limits::default()));
    assert_eq!((spec.affinity, spec.slow_start), (None, None));
    assert!(spec.sources.is_empty() && spec.snat_pool.is_empty() && !spec.endpoints[0].backup);

    let turns = pb::ServiceSpec { algorithm: pb::Algorithm::RoundRobin.into(), ..old };
    assert_eq!(ServiceSpec::try_from(turns).unwrap().on_miss, OnMiss::Drop);

    let settings = Some((&lockstep_model::intent::ClusterSettings::default()).into());
    let state = State::try_from(pb::State { settings, ..Default::default() }).unwrap();
    assert!(state.snat_rules.is_empty() && state.port_blocks.is_empty());
}

#[test]
fn a_flow_of_a_version_without_source_and_kind_is_translated_and_keeps_its_client() {
    use lockstep_model::flow::FlowKind;
    let socket = |host| Some(pb::SocketAddress { address: vec![192, 0, 2, host], port: 1 });
    let old = pb::FlowRecord {
        key: Some(pb::FlowKey { client: socket(1), service: socket(2), protocol: 1 }),
        endpoint_address: socket(3),
        version: Some(pb::FlowVersion { birth: 1, n: 2 }),
        state: 1,
        ..Default::default()
    };
    let record = FlowRecord::try_from(old).unwrap();
    assert_eq!((record.source, record.kind), (None, FlowKind::Nat));
}

#[test]
fn errors_of_rules_name_the_field() {
    use lockstep_model::intent::SnatRuleSpec;
    let prefix = |address: [u8; 4], length| Some(pb::Prefix { address: address.to_vec(), length });
    let rule = pb::SnatRuleSpec {
        source: prefix([10, 0, 0, 0], 8),
        destination: prefix([0; 4], 0),
        port_first: 1,
        port_last: 65535,
        action: Some(pb::snat_rule_spec::Action::StaticTo(vec![192, 0, 2, 1])),
        ..Default::default()
    };
    let with = |change: &dyn Fn(&mut pb::SnatRuleSpec)| {
        let mut rule = rule.clone();
        change(&mut rule);
        SnatRuleSpec::try_from(rule)
    };
    assert!(with(&|_| ()).is_ok());
    let host_bits = refused(with(&|r| r.source = prefix([10, 0, 0, 1], 8)));
    assert!(host_bits.starts_with("source.length: 8 is not in"), "{host_bits}");
    assert_eq!(refused(with(&|r| r.destination = None)), "destination: missing");
    assert_eq!(refused(with(&|r| r.action = None)), "action: missing");
    assert_eq!(refused(with(&|r| r.priority = 65536)), "priority: 65536 is not in 0-65535");
    assert_eq!(refused(with(&|r| r.protocol = 99)), "protocol: unknown value 99");
    assert_eq!(refused(with(&|r| r.port_first = 0)), "port_last: 65535 is not in the first port to 65535");
    let short = refused(with(&|r| r.action = Some(pb::snat_rule_spec::Action::StaticTo(vec![1]))));
    assert_eq!(short, "static_to: an address of 1 bytes; allowed: 4 or 16");
}

#[test]
fn no_state_has_the_first_port_block_or_none() {
    let settings = Some((&lockstep_model::intent::ClusterSettings::default()).into());
    for blocks in [0, 1, 1 << 32 | 1] {
        let port_blocks = vec![pb::PortBlocks { address: vec![192, 0, 2, 1], blocks }];
        let state = State::try_from(pb::State { settings, port_blocks, ..Default::default() });
        assert!(refused(state).starts_with("port_blocks[0].blocks: "), "{blocks:x}");
    }
}
