//! The reconciler: the kernel ends up holding the image, from wherever it starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use aya::Pod;
use lockstep_abi::address::{AddressValue, AnswerKey, AnswerValue};
use lockstep_abi::map as names;
use lockstep_abi::service::{GuardKey4, GuardValue, ServiceKey4, ServiceRef, ServiceVersion};
use lockstep_loader::{Answer, Dataplane};
use lockstep_model::flow::WriteOutcome;
use lockstep_model::ids::{GroupId, Revision};
use lockstep_model::image::{GroupImage, Image};
use lockstep_model::intent::{PortRange, SyncPolicy};

use crate::bed::{Bed, FLOATING, GROUP, TCP_SERVICE, VIP, endpoint, image, record, upsert, version};

/// The maps that `apply` fills, in a form that can be compared.
fn snapshot(bed: &Bed) -> BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>> {
    fn dump<K: Pod, V: Pod>(bed: &Bed, name: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
        bed.hash::<K, V>(name).iter().map(Result::unwrap).map(|(k, v)| (bytes(&k), bytes(&v))).collect()
    }
    BTreeMap::from([
        (names::ADDRESS_INDEX4, dump::<u32, u32>(bed, names::ADDRESS_INDEX4)),
        (names::ANSWERS, dump::<AnswerKey, AnswerValue>(bed, names::ANSWERS)),
        (names::GUARDS4, dump::<GuardKey4, GuardValue>(bed, names::GUARDS4)),
        (names::SERVICES4, dump::<ServiceKey4, ServiceRef>(bed, names::SERVICES4)),
    ])
}

fn bytes<T: Pod>(value: &T) -> Vec<u8> {
    // SAFETY: Pod: every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }.to_vec()
}

pub(crate) fn array<V: Pod>(bed: &Bed, name: &str) -> aya::maps::Array<aya::maps::MapData, V> {
    aya::maps::Array::try_from(aya::maps::Map::Array(bed.map(name))).unwrap()
}

fn key(port: u16, protocol: u8) -> ServiceKey4 {
    ServiceKey4 { vip_be: u32::from_ne_bytes(VIP.octets()), port_be: port.to_be(), protocol, pad: 0 }
}

fn published(bed: &Bed, port: u16, protocol: u8) -> (u32, ServiceVersion) {
    let current: ServiceRef = bed.hash(names::SERVICES4).get(&key(port, protocol), 0).unwrap();
    (current.version_slot, array(bed, names::VERSIONS).get(&current.version_slot, 0).unwrap())
}

pub(crate) fn again(dataplane: &mut Dataplane, image: &Image) -> Vec<String> {
    dataplane.apply(image, |_| true).unwrap().changes
}

#[test]
fn applying_twice_changes_nothing() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let before = snapshot(&bed);
    assert_eq!(again(&mut dataplane, &image()), Vec::<String>::new());
    assert_eq!(snapshot(&bed), before);
    assert_eq!(before[names::SERVICES4].len(), 2);
    // Each of three endpoints: TCP, UDP, and the address alone.
    assert_eq!(before[names::GUARDS4].len(), 9);
}

#[test]
fn a_dirty_kernel_ends_as_a_clean_one() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let clean = snapshot(&bed);

    bed.hash::<ServiceKey4, ServiceRef>(names::SERVICES4).remove(&key(80, 6)).unwrap();
    bed.hash::<ServiceKey4, ServiceRef>(names::SERVICES4)
        .insert(key(9999, 6), ServiceRef::default(), 0)
        .unwrap();
    bed.hash::<u32, u32>(names::ADDRESS_INDEX4).insert(77, 3, 0).unwrap();
    bed.hash::<u32, u32>(names::ADDRESS_INDEX4).remove(&u32::from_ne_bytes(FLOATING.octets())).unwrap();
    bed.hash::<AnswerKey, AnswerValue>(names::ANSWERS)
        .insert(AnswerKey { ifindex: 500, family: 4, address: [77, 0, 0, 0] }, AnswerValue::default(), 0)
        .unwrap();
    for guard in
        bed.hash::<GuardKey4, GuardValue>(names::GUARDS4).keys().map(Result::unwrap).collect::<Vec<_>>()
    {
        bed.hash::<GuardKey4, GuardValue>(names::GUARDS4).remove(&guard).unwrap();
    }
    array::<AddressValue>(&bed, names::ADDRESSES)
        .set(
            9,
            AddressValue { stamp: 3, address: [77, 0, 0, 0], lease_slot: 5, ..AddressValue::default() },
            0,
        )
        .unwrap();

    assert_ne!(again(&mut dataplane, &image()), Vec::<String>::new());
    let mut mended = snapshot(&bed);
    // The service that had lost its reference is published anew, in whatever slot is free.
    let slot = published(&bed, 80, 6);
    assert_eq!((slot.1.service, slot.1.endpoint_count), (TCP_SERVICE.get(), 3));
    let mut clean = clean;
    for services in [&mut mended, &mut clean] {
        services.get_mut(names::SERVICES4).unwrap().remove(&bytes(&key(80, 6)));
    }
    assert_eq!(mended, clean);
    assert_eq!(array::<AddressValue>(&bed, names::ADDRESSES).get(&9, 0).unwrap(), AddressValue::default());
    assert_eq!(again(&mut dataplane, &image()), Vec::<String>::new());
}

#[test]
fn i11_a_new_version_is_another_slot_and_the_old_one_is_freed() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let (first_slot, first) = published(&bed, 53, 17);
    assert_eq!((first.revision, first.endpoint_count), (30, 3));

    // What the kernel kept of endpoints that a slot had before, and goes on keeping of those that it has.
    let mut hops = array::<u32>(&bed, names::ENDPOINT_HOPS);
    for slot in 0..4 {
        for position in 0..3 {
            hops.set(slot * names::MAX_ENDPOINTS + position, 77, 0).unwrap();
        }
    }
    assert_eq!(again(&mut dataplane, &image()), Vec::<String>::new());

    let mut changed = image();
    changed.services[1].revision = Revision(31);
    changed.services[1].endpoints[0].weight = 0;
    again(&mut dataplane, &changed);
    let (second_slot, second) = published(&bed, 53, 17);
    assert_ne!(first_slot, second_slot);
    assert!(second_slot < 4, "{second_slot}");
    for position in 0..2 {
        let (first, second) = (first_slot * names::MAX_ENDPOINTS, second_slot * names::MAX_ENDPOINTS);
        assert_eq!(hops.get(&(first + position), 0).unwrap(), 77);
        assert_eq!(hops.get(&(second + position), 0).unwrap(), 0, "another endpoint's next hop");
    }
    assert_eq!((second.revision, second.endpoint_count), (31, 2));
    assert_eq!(
        array::<ServiceVersion>(&bed, names::VERSIONS).get(&first_slot, 0).unwrap(),
        ServiceVersion::default()
    );
}

#[test]
fn i7_the_kernels_maglev_table_is_the_models() {
    let bed = Bed::new(1024);
    let _dataplane = bed.serving();
    let (slot, _) = published(&bed, 53, 17);
    let weights: Vec<_> = image().services[1].endpoints.iter().map(|e| (e.id, e.weight)).collect();
    let table = lockstep_model::maglev::table(&weights, names::MAGLEV_SLOTS as usize);
    let words = array::<u64>(&bed, names::MAGLEV);
    for at in [0, 1, 2, 3, 4, 12345, 65535, 65536u32] {
        let word = words.get(&(slot * names::MAGLEV_WORDS + at / 4), 0).unwrap();
        assert_eq!((word >> (16 * (at % 4))) as u16, table[at as usize], "slot {at}");
    }
}

#[test]
fn many_versions_at_once_fit() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut many = image();
    let pattern = many.services.remove(0);
    many.services.clear();
    for number in 0..256u64 {
        let mut service = pattern.clone();
        service.id = lockstep_model::ids::ServiceId(1000 + number);
        service.frontends[0].ports = PortRange::single(1000 + number as u16);
        many.services.push(service);
    }
    again(&mut dataplane, &many);
    // All of them change: more than there are spare slots.
    for service in &mut many.services {
        service.revision = Revision(31);
    }
    again(&mut dataplane, &many);
    assert_eq!(published(&bed, 1000, 6).1.revision, 31);
    assert_eq!(published(&bed, 1255, 6).1.revision, 31);
    assert_eq!(again(&mut dataplane, &many), Vec::<String>::new());
}

#[test]
fn i9_flows_outlive_their_endpoint_but_not_their_service() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    assert_eq!(dataplane.flows().write(&[upsert(record(1, version(1, 0)), 40)]), [WriteOutcome::Applied]);

    let mut changed = image();
    changed.services[0].revision = Revision(31);
    changed.services[0].endpoints = vec![endpoint(99)];
    assert_eq!(dataplane.apply(&changed, |_| true).unwrap().flows_ended, 0);
    assert_eq!(dataplane.flows().count().unwrap(), 1);

    // i10: and as long as they live, what their endpoints send is guarded.
    let guards = |host: u8| {
        let address_be = u32::from_ne_bytes([10, 0, 0, host]);
        let guards = bed.hash::<GuardKey4, GuardValue>(names::GUARDS4);
        guards
            .keys()
            .map(Result::unwrap)
            .filter(|key| key.address_be == address_be && key.protocol == 6)
            .count()
    };
    assert_eq!((guards(11), guards(12), guards(99)), (0, 1, 1), "flow 1 is with endpoint 12");

    changed.services.remove(0);
    assert_eq!(dataplane.apply(&changed, |_| true).unwrap().flows_ended, 1);
    assert_eq!((guards(11), guards(12), guards(99)), (0, 0, 0));
    assert_eq!(dataplane.flows().count().unwrap(), 0);
}

#[test]
fn a_group_that_goes_gives_up_everything() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    again(&mut dataplane, &Image::default());
    for (name, entries) in snapshot(&bed) {
        assert_eq!(entries, BTreeMap::new(), "{name}");
    }
    assert!(dataplane.lease_writer().close(GROUP).is_err());
    assert_eq!(dataplane.answering(GROUP).unwrap(), vec![]);
}

#[test]
fn slots_and_indexes_stay_while_others_come_and_go() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let before = bed.entries::<u32, u32>(names::ADDRESS_INDEX4);
    let mut more = image();
    more.groups.insert(
        0,
        GroupImage {
            id: GroupId(3),
            name: "other".into(),
            addresses: vec![lockstep_model::image::AddressImage {
                address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
                ..image().groups[0].addresses[0]
            }],
            ..image().groups[0].clone()
        },
    );
    again(&mut dataplane, &more);
    let after = bed.entries::<u32, u32>(names::ADDRESS_INDEX4);
    assert!(before.iter().all(|(address, index)| after.get(address) == Some(index)));
    assert_eq!(after.len(), before.len() + 1);
}

#[test]
fn an_address_on_no_network_makes_the_node_unfit() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut image = image();
    image.groups[0].addresses[0].address = "203.0.113.10".parse().unwrap();
    let report = dataplane.apply(&image, |_| true).unwrap();
    assert_eq!(
        report.unfit,
        [(GROUP, "no interface has a connected prefix containing 203.0.113.10".to_owned())]
    );
    image.groups[0].interfaces = vec!["eth0".into()];
    assert_eq!(dataplane.apply(&image, |_| true).unwrap().unfit, vec![]);
}

#[test]
fn announcements_name_the_interface_that_answers() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let interfaces = dataplane.interfaces().unwrap();
    let mut answers = dataplane.answering(GROUP).unwrap();
    answers.sort_by_key(|answer| answer.address);
    let found: Vec<_> = answers.iter().map(|answer| (answer.address, answer.ifindex, answer.mac)).collect();
    assert_eq!(
        found,
        [
            (IpAddr::V4(FLOATING), interfaces[1].index, interfaces[1].mac),
            (IpAddr::V4(VIP), interfaces[0].index, interfaces[0].mac)
        ]
    );
    assert_ne!(interfaces[0].mac, [0; 6]);
}

#[test]
fn an_address_that_may_not_be_served_yet_has_no_lease() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let report = dataplane.apply(&image(), |address| address.address != IpAddr::V4(VIP)).unwrap();
    assert_eq!(report.withheld, [IpAddr::V4(VIP)]);
    let index = bed.entries::<u32, u32>(names::ADDRESS_INDEX4)[&u32::from_ne_bytes(VIP.octets())];
    let slot = |bed: &Bed| array::<AddressValue>(bed, names::ADDRESSES).get(&index, 0).unwrap().lease_slot;
    assert!(slot(&bed) >= names::MAX_LEASES);
    assert!(dataplane.apply(&image(), |_| true).unwrap().withheld.is_empty());
    assert!(slot(&bed) < names::MAX_LEASES);
}

#[test]
fn i3_an_address_that_may_not_be_served_yet_is_not_announced() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let addresses = |answers: Vec<Answer>| -> Vec<IpAddr> { answers.iter().map(|a| a.address).collect() };
    let report = dataplane.apply(&image(), |address| address.address != IpAddr::V4(VIP)).unwrap();
    let told = report.answers[&GROUP].iter().copied().collect();
    assert_eq!(addresses(told), [IpAddr::V4(FLOATING)]);
    assert_eq!(addresses(dataplane.answering(GROUP).unwrap()), [IpAddr::V4(FLOATING)]);

    let report = dataplane.apply(&image(), |_| true).unwrap();
    let table = dataplane.answers();
    assert_eq!(report.answers[&GROUP].len(), 2, "it is told when it may be");
    assert!(report.answers[&GROUP].iter().all(|answer| table.has(GROUP, answer).unwrap()));
    dataplane.apply(&image(), |address| address.address != IpAddr::V4(VIP)).unwrap();
    let still: Vec<_> = report.answers[&GROUP].iter().filter(|a| table.has(GROUP, a).unwrap()).collect();
    assert_eq!(still.iter().map(|a| a.address).collect::<Vec<_>>(), [IpAddr::V4(FLOATING)]);
    let moved = Answer { mac: [2; 6], ..*still[0] };
    assert!(!table.has(GROUP, &moved).unwrap(), "its interface has another hardware address");
}

#[test]
fn flows_of_a_service_without_sync_are_not_replicated() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut image = image();
    image.services[0].sync = SyncPolicy::None;
    again(&mut dataplane, &image);
    dataplane.flows().write(&[upsert(record(1, version(1, 0)), 40)]);
    assert!(!dataplane.flows().walk(None, 100).unwrap().flows[0].replicated);
}
