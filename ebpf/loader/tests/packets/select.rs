//! Which endpoint a new flow gets.

use lockstep_abi::map::{self, MAGLEV_SLOTS, MAGLEV_WORDS};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{MAGLEV, ROUND_ROBIN, SYNC_IMMEDIATE};
use lockstep_packet::select::flow_hash;

use crate::frame::{ACK, SYN};
use crate::rig::*;

#[test]
fn round_robin_goes_around() {
    with_rig(|rig| {
        let chosen: Vec<_> = (0..7)
            .map(|i| rig.client_sends(&tcp(40000 + i, SYN)).forwarded(Reason::ForwardedSlow).destination)
            .collect();
        assert_eq!(chosen, [1, 2, 3, 1, 2, 3, 1].map(endpoint));
    });
}

#[test]
fn i7_maglev_chooses_in_the_kernel_what_the_host_computes() {
    with_rig(|rig| {
        // Any table will do for this: what is proven is that both sides look up the same slot.
        let table: Vec<u16> = (0..MAGLEV_SLOTS).map(|slot| ((slot * 7 + slot / 3) % 3) as u16).collect();
        let mut maglev = rig.array::<u64>(map::MAGLEV);
        for (word, positions) in table.chunks(4).enumerate() {
            let packed = positions.iter().enumerate().fold(0, |w, (i, &p)| w | u64::from(p) << (16 * i));
            maglev.set(VERSION * MAGLEV_WORDS + word as u32, packed, 0).unwrap();
        }
        rig.service(&[1, 2, 3], MAGLEV, SYNC_IMMEDIATE);
        let mut seen = [0; 3];
        for port in 40000..40100 {
            let packet = tcp(port, SYN);
            let position = table[(flow_hash(&key(&packet)) % MAGLEV_SLOTS) as usize];
            let out = rig.client_sends(&packet).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.destination, endpoint(position as u8 + 1), "port {port}");
            seen[usize::from(position)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 10), "{seen:?}");
    });
}

#[test]
fn a_service_without_endpoints_drops_new_flows_and_keeps_the_live_ones() {
    with_rig(|rig| {
        let n = rig.connect(40000);
        for algorithm in [ROUND_ROBIN, MAGLEV] {
            rig.service(&[], algorithm, SYNC_IMMEDIATE);
            rig.client_sends(&tcp(40001, SYN)).dropped(Reason::NoEndpoint);
        }
        let out = rig.client_sends(&tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(out.destination, endpoint(n), "i9");
    });
}

#[test]
fn i11_a_version_slot_that_belongs_to_another_service_is_not_used() {
    with_rig(|rig| {
        let mut versions = rig.array::<lockstep_abi::service::ServiceVersion>(map::VERSIONS);
        let mut version = versions.get(&VERSION, 0).unwrap();
        version.service += 1;
        versions.set(VERSION, version, 0).unwrap();
        rig.client_sends(&tcp(40000, SYN)).dropped(Reason::NoService);
    });
}
