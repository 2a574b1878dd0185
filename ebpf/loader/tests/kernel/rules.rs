//! Rules for what leaves.

use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use lockstep_abi::address::{AddressValue, STATIC, TransitValue};
use lockstep_abi::map as names;
use lockstep_abi::snat::{EXEMPT, SNAT, SnatSet};
use lockstep_model::flow::{FlowRecord, WriteOutcome};
use lockstep_model::ids::{EndpointId, ServiceId};
use lockstep_model::image::{AddressImage, Image, SnatRuleImage};
use lockstep_model::intent::{PortRange, SnatAction};

use crate::apply::{again, array};
use crate::bed::{Bed, GROUP, VIP, address, image, record, upsert, version};

fn rule(id: u64, priority: u16, source: &str, action: SnatAction) -> SnatRuleImage {
    SnatRuleImage {
        id: ServiceId(id),
        name: format!("rule-{id}"),
        group: GROUP,
        priority,
        source: source.parse().unwrap(),
        destination: "0.0.0.0/0".parse().unwrap(),
        protocol: None,
        ports: PortRange::ANY,
        action,
    }
}

fn with_rules() -> Image {
    let mut image = image();
    image.groups[0].addresses[0].snat = true;
    image.groups[0].addresses[0].port_blocks = 0xf << 32;
    let mut exempt = rule(50, 10, "10.0.0.0/24", SnatAction::None);
    exempt.destination = "192.0.2.0/24".parse().unwrap();
    exempt.ports = PortRange { first: 53, last: 54 };
    image.snat_rules = vec![exempt, rule(51, 20, "10.0.0.0/8", SnatAction::Snat(vec![IpAddr::V4(VIP)]))];
    image
}

/// The rules that the programs find for a source.
fn set(bed: &Bed, source: [u8; 4]) -> Option<SnatSet> {
    let sources: LpmTrie<_, u32, u32> =
        LpmTrie::try_from(aya::maps::Map::LpmTrie(bed.map(names::SNAT_SOURCES4))).unwrap();
    let index = sources.get(&Key::new(32, u32::from_ne_bytes(source)), 0).ok()?;
    Some(array::<SnatSet>(bed, names::SNAT_SETS).get(&index, 0).unwrap())
}

fn ids(set: &SnatSet) -> Vec<u64> {
    set.rules[..set.count as usize].iter().map(|rule| rule.id).collect()
}

fn used_sets(bed: &Bed) -> usize {
    array::<SnatSet>(bed, names::SNAT_SETS).iter().filter(|set| set.as_ref().unwrap().count > 0).count()
}

#[test]
fn the_longest_source_has_the_rules_of_those_around_it() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    again(&mut dataplane, &with_rules());
    let near = set(&bed, [10, 0, 0, 11]).unwrap();
    assert_eq!((ids(&near), ids(&set(&bed, [10, 9, 9, 9]).unwrap())), (vec![50, 51], vec![51]));
    assert!(set(&bed, [11, 0, 0, 1]).is_none());
    let (exempt, snat) = (near.rules[0], near.rules[1]);
    assert_eq!((exempt.action, exempt.first_port, exempt.last_port, exempt.to_count), (EXEMPT, 53, 54, 0));
    assert_eq!(exempt.destination_mask, [u32::from_ne_bytes([255, 255, 255, 0]), 0, 0, 0]);
    assert_eq!((snat.action, snat.first_port, snat.last_port, snat.to_count), (SNAT, 0, 65535, 1));
    let vip = bed.entries::<u32, u32>(names::ADDRESS_INDEX4)[&u32::from_ne_bytes(VIP.octets())];
    assert_eq!((snat.to[0], snat.protocol, snat.destination_mask), (vip, 0, [0; 4]));
    let value = array::<AddressValue>(&bed, names::ADDRESSES).get(&vip, 0).unwrap();
    assert_eq!(value.port_blocks, 0xf << 32);
    assert_eq!(again(&mut dataplane, &with_rules()), Vec::<String>::new());

    // A source is an endpoint-side network.
    let transit: LpmTrie<_, u32, TransitValue> =
        LpmTrie::try_from(aya::maps::Map::LpmTrie(bed.map(names::TRANSIT4))).unwrap();
    let outer = Key::new(8, u32::from_ne_bytes([10, 0, 0, 0]));
    assert_eq!(transit.get(&outer, 0).unwrap().count, 1);
}

#[test]
fn i11_a_changed_set_is_another_one_and_the_old_one_is_freed() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    again(&mut dataplane, &with_rules());
    assert_eq!(used_sets(&bed), 2);
    let mut changed = with_rules();
    changed.snat_rules.swap(0, 1);
    again(&mut dataplane, &changed);
    assert_eq!(ids(&set(&bed, [10, 0, 0, 11]).unwrap()), [51, 50]);
    assert_eq!(used_sets(&bed), 2);
    again(&mut dataplane, &image());
    assert!(set(&bed, [10, 0, 0, 11]).is_none());
    assert_eq!(used_sets(&bed), 0);
}

/// A connection of a host behind the gateway.
fn leaving() -> FlowRecord {
    let mut flow = record(1, version(1, 0));
    flow.key.client = "10.0.0.77:5000".parse().unwrap();
    flow.key.service = "203.0.113.9:443".parse().unwrap();
    flow.endpoint_address = flow.key.service;
    flow.service = ServiceId(51);
    flow.endpoint = EndpointId(0);
    flow.source = Some("192.0.2.10:33000".parse().unwrap());
    flow
}

#[test]
fn records_of_a_rule_are_taken_and_end_with_it() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let table = dataplane.flows();
    assert_eq!(
        table.write(&[upsert(leaving(), 40)]),
        [WriteOutcome::UnknownGroup],
        "the rule is not here yet"
    );
    again(&mut dataplane, &with_rules());
    assert_eq!(table.write(&[upsert(leaving(), 40)]), [WriteOutcome::Applied]);
    let found = table.walk(None, 10).unwrap().flows.remove(0).record;
    assert_eq!(FlowRecord { remaining: leaving().remaining, ..found }, leaving());

    let mut without = with_rules();
    without.snat_rules.remove(0);
    assert_eq!(dataplane.apply(&without, |_| true).unwrap().flows_ended, 0, "another rule's end");
    without.snat_rules.clear();
    assert_eq!(dataplane.apply(&without, |_| true).unwrap().flows_ended, 1);
}

#[test]
fn a_static_address_stands_for_its_host_both_ways() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let mut image = with_rules();
    let outside: IpAddr = "192.0.2.55".parse().unwrap();
    let host: IpAddr = "10.0.0.77".parse().unwrap();
    image.groups[0].addresses.push(AddressImage { static_host: Some(host), ..address(outside) });
    image.snat_rules.insert(0, rule(52, 1, "10.0.0.77/32", SnatAction::Static(outside)));
    again(&mut dataplane, &image);
    let values = array::<AddressValue>(&bed, names::ADDRESSES);
    let value = values.iter().map(Result::unwrap).find(|value| value.flags & STATIC != 0).unwrap();
    assert_eq!(value.static_host[0].to_ne_bytes(), [10, 0, 0, 77]);
    assert_eq!(ids(&set(&bed, [10, 0, 0, 77]).unwrap()), [52, 50, 51]);

    // From outside: it names no rule.
    let mut inward = leaving();
    inward.key.client = "198.18.0.1:5000".parse().unwrap();
    inward.key.service = "192.0.2.55:22".parse().unwrap();
    inward.endpoint_address = "10.0.0.77:22".parse().unwrap();
    inward.service = ServiceId(0);
    inward.source = None;
    assert_eq!(dataplane.flows().write(&[upsert(inward, 40)]), [WriteOutcome::Applied]);
    assert_eq!(again(&mut dataplane, &image), Vec::<String>::new());
    assert_eq!(dataplane.apply(&with_rules(), |_| true).unwrap().flows_ended, 1);
}
