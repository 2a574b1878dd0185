use std::sync::Arc;

use lockstep_model::ids::ServiceId;
use lockstep_model::intent::{AllDown, HealthCheck, Probe};

use super::*;

const GROUP: GroupId = GroupId(9);

fn target(endpoint: u64, verdict: Option<bool>) -> (EndpointId, Target) {
    let check = HealthCheck {
        probe: Probe::Tcp,
        port: 0,
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        rise: 1,
        fall: 2,
        all_down: AllDown::ServeNone,
    };
    let to = ([10, 0, 0, endpoint as u8], 80).into();
    let (service, name, check) = (ServiceId(1), "web".into(), Arc::new(check));
    (EndpointId(endpoint), Target { service, name, group: GROUP, address: to, to, check, verdict })
}

fn table(verdicts: &[Option<bool>]) -> Table {
    let table = Table::default();
    table.set(&(1..).zip(verdicts).map(|(id, verdict)| target(id, *verdict)).collect());
    table
}

fn fails(table: &Table, now: Instant, endpoint: u64, times: usize) {
    for _ in 0..times {
        table.result(now, EndpointId(endpoint), Err(Failure::of(FailureKind::Timeout)));
    }
}

#[test]
fn a_probe_that_could_not_be_made_is_no_result() {
    let (table, now) = (table(&[None]), Instant::now());
    for _ in 0..9 {
        let nothing = table.result(now, EndpointId(1), Err(Failure { kind: FailureKind::Local, detail: 24 }));
        assert_eq!(nothing, None);
    }
    assert_eq!(table.report(now), [], "so there is nothing to report");
    assert_eq!(table.result(now, EndpointId(1), Ok(())), Some(true));
    assert_eq!(table.result(now, EndpointId(2), Ok(())), None, "nobody knows that one");
}

#[test]
fn what_was_probed_three_intervals_ago_is_not_reported() {
    let (table, start) = (table(&[Some(true), Some(true)]), Instant::now());
    let after = |ms| start + Duration::from_millis(ms);
    table.result(start, EndpointId(1), Ok(()));
    table.result(after(1000), EndpointId(2), Ok(()));
    let ids = |ms| table.report(after(ms)).iter().map(|view| view.endpoint.get()).collect::<Vec<_>>();
    assert_eq!(ids(3000), [1, 2]);
    assert_eq!(ids(3001), [2]);
    assert_eq!(table.report(after(3001))[0].age, Duration::from_millis(2001));
}

#[test]
fn a_view_outlives_a_verdict_and_not_another_question() {
    let (table, now) = (table(&[None]), Instant::now());
    table.result(now, EndpointId(1), Ok(()));
    table.set(&BTreeMap::from([target(1, Some(true))]));
    assert_eq!(table.views()[&EndpointId(1)].opinion, Some(true));
    let (id, mut other) = target(1, Some(true));
    other.to.set_port(81);
    table.set(&BTreeMap::from([(id, other)]));
    assert_eq!(table.views()[&EndpointId(1)], View::default());
}

#[test]
fn a_node_is_cut_off_when_it_alone_misses_more_than_half_of_those_that_are_up() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    // Four are up as far as the cluster knows; what it knows to be down does not count.
    let verdicts = [Some(true), Some(true), None, Some(true), Some(false), Some(false)];
    let table = table(&verdicts);
    for endpoint in [1, 2, 5, 6] {
        fails(&table, start, endpoint, 2);
    }
    assert_eq!(table.look_around(after(0)), None);
    assert_eq!(table.look_around(after(3)), None, "half is not more than half");
    fails(&table, after(3), 3, 2);
    assert_eq!(table.look_around(after(3)), None);
    assert_eq!(table.look_around(after(5)), None, "the others may be slower");
    assert_eq!(table.look_around(after(6)), Some([GROUP].into()));
    assert_eq!(table.cut_off(), [GROUP].into());
    assert_eq!(table.look_around(after(7)), None, "no news");
    table.result(after(8), EndpointId(1), Ok(()));
    assert_eq!(table.look_around(after(8)), Some([].into()));
    // They agree: it is the endpoints.
    table.set(&(1..=6).map(|id| target(id, Some(false))).collect());
    assert_eq!(table.look_around(after(20)), None);
    assert!(table.cut_off().is_empty());
}
