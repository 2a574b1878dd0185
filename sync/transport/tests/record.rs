//! The packed record array: its bytes are a contract between versions.

use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowKey, FlowKind, FlowRecord, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, GroupId, ServiceId};
use lockstep_model::protocol::Protocol;
use lockstep_sync_core::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_RECORD_BYTES};
use lockstep_sync_transport::{RECORD_VERSIONS, RecordError, RecordVersions, decode, encode};
use proptest::prelude::*;

const GROUP: GroupId = GroupId(7);

fn key() -> FlowKey {
    FlowKey {
        client: "198.51.100.1:4711".parse().unwrap(),
        service: "192.0.2.10:443".parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

/// A flow of an IPv6 service, seen from an IPv6 address of the group.
fn six() -> FlowChange {
    let FlowChange::Upsert(record) = upsert() else { unreachable!("it is one") };
    FlowChange::Upsert(FlowRecord {
        key: FlowKey {
            client: "[2001:db8::1]:4711".parse().unwrap(),
            service: "[2001:db8::2]:0".parse().unwrap(),
            protocol: Protocol::Icmp,
        },
        endpoint_address: "[2001:db8::3]:0".parse().unwrap(),
        source: Some("[2001:db8::4]:32768".parse().unwrap()),
        kind: FlowKind::Nat,
        ..record
    })
}

fn upsert() -> FlowChange {
    FlowChange::Upsert(FlowRecord {
        key: key(),
        group: GROUP,
        service: ServiceId(0x0102),
        endpoint: EndpointId(0x0304),
        endpoint_address: "10.0.0.11:8443".parse().unwrap(),
        source: Some("10.0.0.1:33000".parse().unwrap()),
        kind: FlowKind::DsrGue,
        version: FlowVersion { birth: 0x1122_3344_5566_7788, n: 3 },
        state: FlowState::Established,
        state_bits: 0xaabb_ccdd,
        remaining: Duration::from_millis(3_600_000),
    })
}

fn removal() -> FlowChange {
    FlowChange::Remove { key: key(), group: GROUP, version: FlowVersion { birth: 5, n: 9 } }
}

#[test]
fn bytes_of_version_2() {
    #[rustfmt::skip]
    let golden = [
        8, 6, 1, 3, 0x67, 0x12, 0xbb, 0x01,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3, 0, 0, 0, 0, 0, 0, 0,
        198, 51, 100, 1, 192, 0, 2, 10,
        0x02, 0x01, 0, 0, 0, 0, 0, 0, 0x04, 0x03, 0, 0, 0, 0, 0, 0,
        0xdd, 0xcc, 0xbb, 0xaa, 0x80, 0xee, 0x36, 0x00, 0xfb, 0x20, 0xe8, 0x80, 10, 0, 0, 11,
        10, 0, 0, 1,
        // The second record.
        1, 6, 0, 0, 0x67, 0x12, 0xbb, 0x01,
        5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        198, 51, 100, 1, 192, 0, 2, 10,
    ];
    let changes = vec![upsert(), removal()];
    assert_eq!(encode(2, &changes), golden);
    assert_eq!(decode(2, GROUP, 2, &golden), Ok(changes));
}

#[test]
fn bytes_of_version_3() {
    #[rustfmt::skip]
    let golden = [
        8, 6, 1, 3, 0x67, 0x12, 0xbb, 0x01,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3,
        198, 51, 100, 1, 192, 0, 2, 10,
        0x82, 0x02, 0x84, 0x06,
        0xdd, 0xcc, 0xbb, 0xaa, 0x80, 0xee, 0x36, 0x00, 0xfb, 0x20, 0xe8, 0x80, 10, 0, 0, 11,
        10, 0, 0, 1,
        // The second record.
        1, 6, 0, 0, 0x67, 0x12, 0xbb, 0x01,
        5, 0, 0, 0, 0, 0, 0, 0, 9,
        198, 51, 100, 1, 192, 0, 2, 10,
    ];
    let changes = vec![upsert(), removal()];
    assert_eq!(encode(3, &changes), golden);
    assert_eq!(decode(3, GROUP, 2, &golden), Ok(changes));
}

#[test]
fn a_number_has_one_form() {
    let mut bytes = encode(3, &[removal()]);
    // 9 in two bytes.
    bytes.splice(16..17, [0x89, 0]);
    assert!(matches!(decode(3, GROUP, 1, &bytes), Err(RecordError::Field { field: "number", .. })));
    // More than 64 bits.
    bytes.splice(16..18, [0xff; 9].into_iter().chain([2]));
    assert!(matches!(decode(3, GROUP, 1, &bytes), Err(RecordError::Field { field: "number", .. })));
}

#[test]
fn the_highest_version_that_both_know_is_spoken() {
    let versions = |oldest, newest| RecordVersions { oldest, newest };
    for (other, common) in [
        ((1, 2), Some(2)),
        ((2, 2), Some(2)),
        ((2, 3), Some(3)),
        ((3, 4), Some(3)),
        ((4, 5), None),
        ((1, 1), None),
    ] {
        assert_eq!(versions(2, 3).common(versions(other.0, other.1)), common, "{other:?}");
    }
}

#[test]
fn a_flow_takes_little_room_on_the_wire() {
    let FlowChange::Upsert(translated) = upsert() else { unreachable!("it is one") };
    let kept = FlowChange::Upsert(FlowRecord { source: None, ..translated });
    for (version, bytes) in [(2, (64, 68)), (3, (45, 49))] {
        let length = |change: &FlowChange| encode(version, std::slice::from_ref(change)).len();
        assert_eq!((length(&kept), length(&upsert())), bytes, "version {version}");
    }
    let bytes = encode(2, &[six()]);
    assert_eq!(bytes[..2], [2 | 4 | 8 | 16, 58]);
    assert_eq!(decode(2, GROUP, 1, &bytes), Ok(vec![six()]));
    let FlowChange::Upsert(six) = six() else { unreachable!("it is one") };
    let version = FlowVersion { birth: u64::MAX, n: u64::MAX };
    let longest = FlowRecord { service: ServiceId(u64::MAX), endpoint: EndpointId(u64::MAX), version, ..six };
    assert_eq!(encode(3, &[FlowChange::Upsert(longest)]).len(), MAX_RECORD_BYTES);
}

#[test]
fn what_it_cannot_read_it_refuses() {
    let bytes = encode(2, &[upsert()]);
    for version in [0, 1, RECORD_VERSIONS.newest + 1] {
        assert_eq!(decode(version, GROUP, 1, &bytes), Err(RecordError::Version(version)));
    }
    assert_eq!(decode(2, GROUP, 2, &bytes), Err(RecordError::Length));
    assert_eq!(decode(2, GROUP, 0, &bytes), Err(RecordError::Length));
    let many = MAX_BATCH_RECORDS as u32 + 1;
    assert!(matches!(decode(2, GROUP, many, &bytes), Err(RecordError::TooLarge(..))));
    assert!(matches!(decode(2, GROUP, 1, &vec![0; MAX_BATCH_BYTES + 1]), Err(RecordError::TooLarge(..))));

    let damaged = |bytes: &[u8], at: usize, value: u8, field| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        let expected = Err(RecordError::Field { index: 0, field, value });
        assert_eq!(decode(2, GROUP, 1, &bytes), expected, "byte {at}");
    };
    for (at, field) in [(0, "flags"), (1, "protocol"), (2, "state"), (3, "kind")] {
        damaged(&bytes, at, 0xf8, field);
    }
    // ICMP of the other family, the family of no source, and the port of none.
    damaged(&bytes, 1, 58, "protocol");
    damaged(&encode(2, &[six()]), 1, 1, "protocol");
    damaged(&bytes, 0, 16, "flags");
    let FlowChange::Upsert(record) = upsert() else { unreachable!("it is one") };
    let bytes = encode(2, &[FlowChange::Upsert(FlowRecord { source: None, ..record })]);
    damaged(&bytes, 58, 1, "source port");
    // A removal has none of what describes a flow.
    let bytes = encode(2, &[removal()]);
    damaged(&bytes, 0, 1 | 8, "flags");
    damaged(&bytes, 2, 1, "state");
    damaged(&bytes, 3, 1, "kind");
}

fn address() -> impl Strategy<Value = std::net::SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| (ip, port).into()),
        // An IPv4-mapped address has two spellings; only one of them is used.
        any::<([u8; 16], u16)>().prop_filter_map("mapped", |(ip, port)| {
            let ip = std::net::Ipv6Addr::from(ip);
            ip.to_ipv4_mapped().is_none().then_some((ip, port).into())
        }),
    ]
}

fn change() -> impl Strategy<Value = FlowChange> {
    let protocol = prop::sample::select(Protocol::ALL.to_vec());
    let key = (address(), address(), protocol).prop_map(|(client, service, protocol)| FlowKey {
        client,
        service,
        protocol,
    });
    let version = any::<(u64, u64)>().prop_map(|(birth, n)| FlowVersion { birth, n });
    let state = prop_oneof![
        Just(FlowState::New),
        Just(FlowState::Established),
        Just(FlowState::Closing),
        Just(FlowState::Closed),
        Just(FlowState::ResetPending),
    ];
    let kind = prop::sample::select(FlowKind::ALL.to_vec());
    let places = (address(), prop::option::of(address()), kind);
    (key, version, state, places, any::<(u64, u64, u32, u32, bool)>()).prop_map(
        |(
            key,
            version,
            state,
            (endpoint_address, source, kind),
            (service, endpoint, state_bits, remaining, removal),
        )| {
            if removal {
                return FlowChange::Remove { key, group: GROUP, version };
            }
            FlowChange::Upsert(FlowRecord {
                key,
                group: GROUP,
                service: ServiceId(service),
                endpoint: EndpointId(endpoint),
                endpoint_address,
                source,
                kind,
                version,
                state,
                state_bits,
                remaining: Duration::from_millis(remaining.into()),
            })
        },
    )
}

proptest! {
    #[test]
    fn what_was_packed_is_unpacked(version in 2u32..=3, changes in prop::collection::vec(change(), 0..64)) {
        let bytes = encode(version, &changes);
        prop_assert_eq!(decode(version, GROUP, changes.len() as u32, &bytes), Ok(changes));
    }

    #[test]
    fn no_bytes_make_it_panic(version in 2u32..=3, count in 0u32..1000, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(version, GROUP, count, &bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(version in 2u32..=3, changes in prop::collection::vec(change(), 1..8), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(version, &changes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = decode(version, GROUP, changes.len() as u32, &bytes);
    }
}
