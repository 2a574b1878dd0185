//! Which endpoint a new flow gets.

use std::collections::BTreeMap;

use lockstep_abi::age::{FORCE, MARKED};
use lockstep_abi::map::{self, MAGLEV_SLOTS};
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{
    Endpoint, LEAST_CONNECTIONS, MAGLEV, RAMPS, ROUND_ROBIN, SOURCE_HASH, ServiceLoad, ServiceVersion,
};
use lockstep_packet::select::{flow_hash, source_hash};

use crate::case::{Family, Side, wide};
use crate::frame::{ACK, FIN, Packet, RST, SYN, TCP};
use crate::rig::*;

/// The endpoint that a connection from this port gets.
fn chosen(rig: &Rig, port: u16) -> u8 {
    endpoint_of(rig.client_sends(&rig.tcp(port, SYN)).forwarded(Reason::ForwardedSlow).destination.0)
}

#[test]
fn round_robin_goes_around() {
    for_each(|rig| {
        let met: Vec<u8> = (40000..40007).map(|port| chosen(rig, port)).collect();
        assert_eq!(met, [1, 2, 3, 1, 2, 3, 1]);
    });
}

#[test]
fn round_robin_meets_each_endpoint_as_often_as_its_weight_says() {
    for_each(|rig| {
        let weighted = Service { endpoints: vec![(1, 5), (2, 1), (3, 2)], ..Service::default() };
        rig.publish(&weighted.with(|version| version.weight_stride = 3));
        for period in 0..3 {
            let mut met = BTreeMap::new();
            for turn in 0..8 {
                *met.entry(chosen(rig, 40000 + period * 8 + turn)).or_insert(0) += 1;
            }
            assert_eq!(met, BTreeMap::from([(1, 5), (2, 1), (3, 2)]), "period {period}");
        }
    });
}

/// Any table will do: what is proven is that both sides look up the same slot.
fn any_table() -> Vec<u16> {
    (0..MAGLEV_SLOTS).map(|slot| ((slot * 7 + slot / 3) % 3) as u16).collect()
}

fn hash(rig: &Rig, packet: &Packet) -> u32 {
    match rig.net {
        Family::V4 => flow_hash(&narrow_key(&key(packet))),
        Family::V6 => flow_hash(&key(packet)),
    }
}

#[test]
fn i7_maglev_chooses_in_the_kernel_what_the_host_computes() {
    for_each(|rig| {
        let table = any_table();
        rig.maglev(VERSION, &table);
        rig.publish(&Service::default().with(|version| version.algorithm = MAGLEV));
        let mut seen = [0; 3];
        for port in 40000..40100 {
            let position = table[(hash(rig, &rig.tcp(port, SYN)) % MAGLEV_SLOTS) as usize];
            assert_eq!(chosen(rig, port), position as u8 + 1, "port {port}");
            seen[usize::from(position)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 10), "{seen:?}");
    });
}

#[test]
fn i7_source_hash_sends_a_client_to_one_endpoint_whatever_its_port() {
    for_each(|rig| {
        let table = any_table();
        rig.maglev(VERSION, &table);
        rig.publish(&Service::default().with(|version| version.algorithm = SOURCE_HASH));
        let mut seen = [0; 3];
        for host in 100..140 {
            let address = rig.net.host(Side::Clients, host);
            let hash = match rig.net {
                Family::V4 => source_hash(&wide(address)[0]),
                Family::V6 => source_hash(&wide(address)),
            };
            let position = table[(hash % MAGLEV_SLOTS) as usize];
            for port in 40000..40003 {
                let syn = Packet { source: (address, port), ..rig.tcp(port, SYN) };
                let out = rig.client_sends(&syn).forwarded(Reason::ForwardedSlow);
                assert_eq!(endpoint_of(out.destination.0), position as u8 + 1, "{address}");
            }
            seen[usize::from(position)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 3), "{seen:?}");
    });
}

#[test]
fn least_connections_picks_the_least_loaded_for_its_weight() {
    for_each(|rig| {
        let service = Service { endpoints: vec![(1, 1), (2, 4), (3, 2)], ..Service::default() };
        rig.publish(&service.with(|version| version.algorithm = LEAST_CONNECTIONS));
        let loads = rig.table::<u32, u64>(map::TARGET_LOADS);
        for (row, (given, least)) in (0u16..).zip([
            // With the new flow: 11, 5/2, 10/2 for each unit of weight, and so on.
            ([10, 9, 9], 2),
            ([1, 8, 8], 1),
            ([10, 40, 3], 3),
            ([0, 4, 2], 1),
        ]) {
            for (n, load) in (1..).zip(given) {
                loads.put(&target(n), &load);
            }
            for port in 40000 + row * 8..40008 + row * 8 {
                assert_eq!(chosen(rig, port), least, "loads {given:?}");
                for (n, load) in (1..).zip(given) {
                    let counted = loads.get(&target(n)).unwrap();
                    assert_eq!(counted, load + u64::from(n == least), "the flow is counted");
                    loads.put(&target(n), &load);
                }
            }
        }
        // Among equals none is preferred.
        rig.publish(&Service::default().with(|version| version.algorithm = LEAST_CONNECTIONS));
        let mut met = BTreeMap::new();
        for port in 41000..41060 {
            for n in 1..=3 {
                loads.put(&target(n), &7);
            }
            *met.entry(chosen(rig, port)).or_insert(0) += 1;
        }
        assert!(met.len() == 3 && met.values().all(|&n| n > 3), "{met:?}");
    });
}

#[test]
fn a_new_endpoints_share_grows_with_its_time() {
    const FLOWS: u16 = 600;
    // Long enough to stand still meanwhile, and no longer than the machine has been up.
    let ramp_ns = now_ns() / 2;
    for_each(|rig| {
        let table: Vec<u16> = (0..MAGLEV_SLOTS).map(|slot| (slot % 2) as u16).collect();
        rig.maglev(VERSION, &table);
        // How many go to the new one, after so many hundredths of its time.
        let share = |rig: &Rig, hundredths: u64| {
            let endpoint = VERSION * map::MAX_ENDPOINTS + 1;
            rig.table::<u32, Endpoint>(map::ENDPOINTS).change(&endpoint, |endpoint| {
                endpoint.ramp_ns = ramp_ns;
                endpoint.ramp_start_ns = now_ns() - ramp_ns / 100 * hundredths;
            });
            let mut new = 0;
            for port in 40000..40000 + FLOWS {
                // None is lost: each goes to one of the two.
                new += u16::from(chosen(rig, port) == 2);
                let name = key(&rig.tcp(port, 0));
                rig.remove_flow(&rig.flow_at(&name).unwrap().twin);
                rig.remove_flow(&name);
            }
            new
        };
        // In turn: of what it does not take the other one gets all, so that with p of its own share it has p / (1 + p)
        // of all. The bounds are five deviations away.
        rig.publish(&Service::over(&[1, 2]).with(|version| version.flags = RAMPS));
        for (hundredths, expected) in [(0, 8..65), (50, 145..255), (90, 225..300), (100, 300..301)] {
            let found = share(rig, hundredths);
            assert!(expected.contains(&found), "in turn, at {hundredths}: {found}");
        }
        // By hash: of what it does not take half comes back.
        rig.publish(&Service::over(&[1, 2]).with(|version| {
            version.flags = RAMPS;
            version.algorithm = MAGLEV;
        }));
        for (hundredths, expected) in [(0, 105..215), (50, 165..285), (100, 250..350)] {
            let found = share(rig, hundredths);
            assert!(expected.contains(&found), "by hash, at {hundredths}: {found}");
        }
        // At the end it is the hash's choice alone.
        assert_eq!(share(rig, 100), share(rig, 200));
    });
}

/// The connections of the service, and of its first endpoint.
pub(crate) fn counted(rig: &Rig) -> (u64, u64) {
    let of_service = rig.table::<u32, ServiceLoad>(map::SERVICE_LOADS).get(&SERVICE_SLOT).unwrap();
    (of_service.connections, rig.table::<u32, u64>(map::TARGET_LOADS).get(&target(1)).unwrap())
}

#[test]
fn flows_are_counted_where_they_begin_and_end() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        rig.connect(40000);
        rig.connect(40001);
        assert_eq!(counted(rig), (2, 2));
        rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (2, 2), "a retransmission begins none");
        rig.client_sends(&rig.tcp(40001, RST));
        rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (2, 2), "one ended, another began");
        let name = key(&rig.tcp(40000, 0));
        assert_eq!(rig.age(&[name], FORCE)[0].outcome, MARKED);
        assert_eq!(counted(rig), (1, 1));
    });
}

#[test]
fn i13_a_connection_counts_until_both_sides_have_ended_it() {
    for_each(|rig| {
        let end = |rig: &Rig, port| {
            rig.client_sends(&rig.tcp(port, FIN | ACK)).forwarded(Reason::ForwardedSlow);
            rig.endpoint_sends(&rig.reply(TCP, 1, port, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        };
        rig.publish(&Service::over(&[1]).with(|version| version.connection_limit = 3));
        for port in 40000..40003 {
            rig.connect(port);
        }
        rig.client_sends(&rig.tcp(40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (3, 3), "half closed");
        rig.endpoint_sends(&rig.reply(TCP, 1, 40000, FIN | ACK)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (2, 2), "closed, though its entries stay for what is late");
        for late in [ACK, FIN | ACK, RST, RST, ACK] {
            rig.client_sends(&rig.tcp(40000, late));
            assert_eq!(counted(rig), (2, 2), "after flags {late:#x}");
        }
        rig.connect(40003);
        rig.client_sends(&rig.tcp(40004, SYN)).dropped(Reason::ConnectionLimit);
        // Freed, it leaves no second time.
        let name = key(&rig.tcp(40000, 0));
        assert_eq!(rig.age(&[name], FORCE)[0].outcome, MARKED);
        assert_eq!(counted(rig), (3, 3));
        // Nor claimed for its follower, which counts again.
        end(rig, 40001);
        assert_eq!(counted(rig), (2, 2));
        rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (3, 3));
        // Nor with a reset behind the end.
        end(rig, 40002);
        rig.endpoint_sends(&rig.reply(TCP, 1, 40002, RST)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (2, 2));
        rig.client_sends(&rig.tcp(40002, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(counted(rig), (3, 3));
    });
}

#[test]
fn a_service_without_endpoints_drops_new_flows_and_keeps_the_live_ones() {
    for_each(|rig| {
        let n = rig.connect(40000);
        for algorithm in [ROUND_ROBIN, MAGLEV, SOURCE_HASH, LEAST_CONNECTIONS] {
            rig.publish(&Service::over(&[]).with(|version| version.algorithm = algorithm));
            rig.client_sends(&rig.tcp(40001, SYN)).dropped(Reason::NoEndpoint);
        }
        let out = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(out.destination, rig.net.endpoint(n), "i9");
    });
}

#[test]
fn i11_a_version_slot_that_belongs_to_another_service_is_not_used() {
    for_each(|rig| {
        let versions = rig.table::<u32, ServiceVersion>(map::VERSIONS);
        versions.change(&VERSION, |version| version.service += 1);
        rig.client_sends(&rig.tcp(40000, SYN)).dropped(Reason::NoService);
    });
}
