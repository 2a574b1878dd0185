use lockstep_abi::flow::NewFlow;
use lockstep_abi::timeout::DEFAULT;

use super::*;
use crate::family::{V4, V6};

const NOW: KernelInstant = KernelInstant(10_000 * 1_000_000_000);

fn record(client: &str, service: &str, endpoint: &str, source: Option<&str>) -> FlowRecord {
    FlowRecord {
        key: FlowKey {
            client: client.parse().unwrap(),
            service: service.parse().unwrap(),
            protocol: Protocol::Tcp,
        },
        group: GroupId(2),
        service: ServiceId(21),
        endpoint: EndpointId(34),
        endpoint_address: endpoint.parse().unwrap(),
        source: source.map(|source| source.parse().unwrap()),
        kind: FlowKind::Nat,
        version: FlowVersion { birth: 5, n: 2 },
        state: FlowState::Established,
        state_bits: state::ESTABLISHED | state::SEEN,
        remaining: Duration::from_secs(3600),
    }
}

fn v4() -> FlowRecord {
    record("192.0.2.77:40123", "192.0.2.10:80", "10.0.0.11:8080", None)
}

fn v6() -> FlowRecord {
    record("[2001:db8::77]:40123", "[2001:db8::10]:80", "[fd00::11]:8080", None)
}

fn entry<A: KernelFamily>(record: &FlowRecord) -> FlowValue<A> {
    let key = kernel_key(&record.key).unwrap();
    let flow = NewFlow {
        key,
        reply_key: kernel_reply_key(record, &key).unwrap(),
        address_index: 3,
        address_stamp: 4,
        state_bits: record.state_bits,
        n: record.version.n as u32,
        now_ns: NOW.0,
        birth_ns: record.version.birth,
        epoch: 7,
        service: record.service.get(),
        endpoint: record.endpoint.get(),
        mark: 1,
        flags: forwarding(record.kind),
        service_slot: 1,
        target: 1,
        generation: 9,
    };
    flow.original()
}

fn back<A: KernelFamily>(value: &FlowValue<A>, now: KernelInstant) -> FlowRecord {
    of_entry(value, GroupId(2), &DEFAULT, &Targets::default(), now).unwrap()
}

#[test]
fn keys_survive_both_ways_and_shards_agree() {
    let kernel = kernel_key::<V4>(&v4().key).unwrap();
    assert_eq!(model_key(&kernel), Some(v4().key));
    assert_eq!(kernel.shard(), u32::from(v4().key.shard()));
    assert_eq!(kernel.source_be.to_ne_bytes(), [192, 0, 2, 77]);
    assert_eq!(kernel.destination_port_be.to_ne_bytes(), [0, 80]);

    let kernel = kernel_key::<V6>(&v6().key).unwrap();
    assert_eq!(model_key(&kernel), Some(v6().key));
    assert_eq!(kernel.shard(), u32::from(v6().key.shard()));
    assert_eq!((kernel_key::<V6>(&v4().key), kernel_key::<V4>(&v6().key)), (None, None));
}

#[test]
fn records_of_every_kind_survive_the_way_into_an_entry_and_back() {
    let fullnat = FlowRecord { source: Some("192.0.2.10:32800".parse().unwrap()), ..v4() };
    let same_address = FlowRecord { source: Some("192.0.2.77:32800".parse().unwrap()), ..v4() };
    let echo = FlowRecord {
        key: FlowKey {
            client: "192.0.2.77:99".parse().unwrap(),
            service: "192.0.2.10:0".parse().unwrap(),
            protocol: Protocol::Icmp,
        },
        endpoint_address: "10.0.0.11:0".parse().unwrap(),
        source: Some("10.0.0.1:1234".parse().unwrap()),
        remaining: Duration::from_secs(180),
        ..v4()
    };
    for record in [v4(), fullnat, same_address, echo] {
        assert_eq!(back(&entry::<V4>(&record), NOW), record);
    }
    assert_eq!(back(&entry::<V6>(&v6()), NOW), v6());
    let rule = FlowRecord {
        endpoint: EndpointId(0),
        endpoint_address: v6().key.service,
        source: Some("[2001:db8::1]:32800".parse().unwrap()),
        ..v6()
    };
    assert_eq!(back(&entry::<V6>(&rule), NOW), rule);
}

#[test]
fn an_echo_stands_in_the_kernel_with_its_identifier_on_the_side_that_asks() {
    let echo = FlowRecord {
        key: FlowKey {
            client: "[2001:db8::77]:99".parse().unwrap(),
            service: "[2001:db8::10]:0".parse().unwrap(),
            protocol: Protocol::Icmp,
        },
        ..v6()
    };
    let value = entry::<V6>(&echo);
    assert_eq!(value.key.protocol, lockstep_abi::ICMPV6);
    assert_eq!((value.key.source_port_be, value.key.destination_port_be), (99u16.to_be(), 0));
    assert_eq!((value.twin.source_port_be, value.twin.destination_port_be), (0, 99u16.to_be()));
}

#[test]
fn direct_return_has_no_reply_of_its_own() {
    let direct = FlowRecord { kind: FlowKind::DsrIpip, endpoint_address: v4().key.service, ..v4() };
    let value = entry::<V4>(&direct);
    assert_eq!(value.twin, value.key.reversed());
    assert_eq!(back(&value, NOW), direct);
}

#[test]
fn time_left_survives_the_way_into_an_entry_and_back() {
    let value = entry::<V4>(&v4());
    let later = NOW.plus(Duration::from_secs(600));
    let aged = back(&value, later);
    assert_eq!(aged.remaining, Duration::from_secs(3000));
    assert_eq!(last_seen(&value.key, &aged, &DEFAULT, later), NOW.0);
    // A service with times of its own.
    let short = Timeouts { established_ns: 60 * 1_000_000_000, ..DEFAULT };
    let record = of_entry(&value, GroupId(2), &short, &Targets::default(), NOW).unwrap();
    assert_eq!(record.remaining, Duration::from_secs(60));
}
