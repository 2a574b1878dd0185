//! The packed record array: its bytes are a contract between versions.

use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowKey, FlowRecord, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, GroupId, ServiceId};
use lockstep_model::protocol::Protocol;
use lockstep_sync_core::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use lockstep_sync_transport::{RECORD_VERSION, RecordError, decode, encode};
use proptest::prelude::*;

const GROUP: GroupId = GroupId(7);

fn key() -> FlowKey {
    FlowKey {
        client: "198.51.100.1:4711".parse().unwrap(),
        service: "192.0.2.10:443".parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

fn upsert() -> FlowChange {
    FlowChange::Upsert(FlowRecord {
        key: key(),
        group: GROUP,
        service: ServiceId(0x0102),
        endpoint: EndpointId(0x0304),
        endpoint_address: "10.0.0.11:8443".parse().unwrap(),
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
fn bytes_of_version_1() {
    #[rustfmt::skip]
    let golden = [
        0, 6, 1, 0, 0x67, 0x12, 0xbb, 0x01,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3, 0, 0, 0, 0, 0, 0, 0,
        198, 51, 100, 1, 192, 0, 2, 10,
        0x02, 0x01, 0, 0, 0, 0, 0, 0, 0x04, 0x03, 0, 0, 0, 0, 0, 0,
        0xdd, 0xcc, 0xbb, 0xaa, 0x80, 0xee, 0x36, 0x00, 0xfb, 0x20, 0, 0, 10, 0, 0, 11,
        // The second record.
        1, 6, 0, 0, 0x67, 0x12, 0xbb, 0x01,
        5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        198, 51, 100, 1, 192, 0, 2, 10,
    ];
    let changes = vec![upsert(), removal()];
    assert_eq!(encode(&changes), golden);
    assert_eq!(decode(1, GROUP, 2, &golden), Ok(changes));
}

#[test]
fn what_it_cannot_read_it_refuses() {
    let bytes = encode(&[upsert()]);
    assert_eq!(decode(2, GROUP, 1, &bytes), Err(RecordError::Version(2)));
    assert_eq!(decode(1, GROUP, 2, &bytes), Err(RecordError::Length));
    assert_eq!(decode(1, GROUP, 0, &bytes), Err(RecordError::Length));
    let many = MAX_BATCH_RECORDS as u32 + 1;
    assert!(matches!(decode(1, GROUP, many, &bytes), Err(RecordError::TooLarge(..))));
    assert!(matches!(decode(1, GROUP, 1, &vec![0; MAX_BATCH_BYTES + 1]), Err(RecordError::TooLarge(..))));
    for (at, field) in [(0, "flags"), (1, "protocol"), (2, "state"), (3, "reserved"), (58, "reserved")] {
        let mut bytes = bytes.clone();
        bytes[at] = 0xf8;
        assert_eq!(decode(1, GROUP, 1, &bytes), Err(RecordError::Field { index: 0, field, value: 0xf8 }));
    }
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
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
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
    (key, version, state, address(), any::<(u64, u64, u32, u32, bool)>()).prop_map(
        |(key, version, state, endpoint_address, (service, endpoint, state_bits, remaining, removal))| {
            if removal {
                return FlowChange::Remove { key, group: GROUP, version };
            }
            FlowChange::Upsert(FlowRecord {
                key,
                group: GROUP,
                service: ServiceId(service),
                endpoint: EndpointId(endpoint),
                endpoint_address,
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
    fn what_was_packed_is_unpacked(changes in prop::collection::vec(change(), 0..64)) {
        let bytes = encode(&changes);
        prop_assert_eq!(decode(RECORD_VERSION, GROUP, changes.len() as u32, &bytes), Ok(changes));
    }

    #[test]
    fn no_bytes_make_it_panic(count in 0u32..1000, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(RECORD_VERSION, GROUP, count, &bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(changes in prop::collection::vec(change(), 1..8), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&changes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = decode(RECORD_VERSION, GROUP, changes.len() as u32, &bytes);
    }
}
