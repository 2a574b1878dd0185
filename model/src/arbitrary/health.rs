//! Health checks and verdicts.

use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::command::Command;
use crate::health::{Failure, FailureKind, Judgement};
use crate::ids::{EndpointId, LogIndex, NodeId, Revision, ServiceId};
use crate::intent::{AllDown, HealthCheck, HttpProbe, Probe, StatusRange};
use crate::state::State;

/// A check that is valid by itself, in a service of one port.
pub(super) fn health_check() -> impl Strategy<Value = HealthCheck> {
    let times = (100_u64..=3_600_000, 1_u64..=100);
    let all_down = select(vec![AllDown::ServeNone, AllDown::ServeAll]);
    (probe(), 0_u16..3, times, 1_u8..=10, 1_u8..=10, all_down).prop_map(
        |(probe, port, (interval, timeout), rise, fall, all_down)| HealthCheck {
            port: if probe == Probe::Icmp { 0 } else { port },
            probe,
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            rise,
            fall,
            all_down,
        },
    )
}

fn probe() -> impl Strategy<Value = Probe> {
    let bytes = || option::of(vec(any::<u8>(), 1..20));
    let text = option::of("[ -~é]{1,9}".prop_map(String::into_bytes));
    let status = (100_u16..=599, 100_u16..=599);
    let http = ("/[!-~]{0,9}", "([a-z.]{1,9}(:[0-9]{2})?)?", status).prop_map(|(path, host, (a, b))| {
        let expect = StatusRange { first: a.min(b), last: a.max(b) };
        HttpProbe { path, host, expect }
    });
    prop_oneof![
        Just(Probe::Tcp),
        Just(Probe::Icmp),
        (bytes(), text).prop_map(|(send, expect)| Probe::Udp { send, expect }),
        http.clone().prop_map(Probe::Http),
        http.prop_map(Probe::Https),
    ]
}

/// About any service, mostly about none that exists.
pub(super) fn judgement() -> impl Strategy<Value = Judgement> {
    let ids = (1_u64..40, 0_u32..3, 0_u32..5, 0_u64..50);
    (ids, any::<bool>(), option::of(failure()), btree_set((1_u64..5).prop_map(NodeId), 0..3)).prop_map(
        |((index, service, endpoint, revision), up, failure, nodes)| Judgement {
            service: ServiceId(LogIndex(index).object(service)),
            revision: Revision(revision),
            endpoint: EndpointId(LogIndex(index).object(endpoint)),
            up,
            failure,
            nodes,
        },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    (select(FailureKind::ALL.to_vec()), any::<u32>()).prop_map(|(kind, detail)| Failure { kind, detail })
}

/// As a leader would: about one of the endpoints that are probed.
pub(super) fn judge(state: &State, choice: u8) -> Option<Command> {
    let mut probed = state.services.iter().flat_map(|(id, service)| {
        service.probed().map(|(endpoint, _)| (*id, service.revision, endpoint)).collect::<Vec<_>>()
    });
    let (service, revision, endpoint) = probed.nth(usize::from(choice / 4))?;
    let up = choice.is_multiple_of(2);
    let failure = (!up).then_some(Failure::of(FailureKind::Timeout));
    let nodes = [NodeId(1)].into();
    let judgement = Judgement { service, revision, endpoint, up, failure, nodes };
    Some(Command::Judge { at_unix_ms: choice.into(), judgements: vec![judgement] })
}
