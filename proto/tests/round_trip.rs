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
    };
    pb::Service { id: 1, spec: Some(spec), endpoint_ids: vec![2], group: 3, revision: 4 }
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
        "services[0].spec.port: 70000 is not in 1-65535"
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
