//! Services on ranges of ports, as the programs find them.

use lockstep_abi::address::{AddressValue, RANGES, VIP};
use lockstep_abi::map as names;
use lockstep_abi::service::{GuardKey4, GuardValue, RangeKey4, ServiceKey4, ServiceRef};
use lockstep_model::flow::WriteOutcome;
use lockstep_model::image::Image;
use lockstep_model::intent::PortRange;
use lockstep_model::protocol::Protocol;

use aya::maps::lpm_trie::{Key, LpmTrie};

use crate::apply::{again, array};
use crate::bed::{Bed, UDP_SERVICE, image, record, upsert, version};

fn ranges(bed: &Bed) -> LpmTrie<aya::maps::MapData, RangeKey4, ServiceRef> {
    LpmTrie::try_from(aya::maps::Map::LpmTrie(bed.map(names::RANGES4))).unwrap()
}

/// The service at a port, as the programs look.
fn at(bed: &Bed, port: u16, protocol: u8) -> Option<u64> {
    let vip_be = u32::from_ne_bytes(crate::bed::VIP.octets());
    let key = RangeKey4 { vip_be, protocol, pad: 0, port_be: port.to_be() };
    ranges(bed).get(&Key::new(64, key), 0).ok().map(|current| current.service)
}

fn with_range(ports: PortRange) -> Image {
    let mut image = image();
    image.services[1].frontends[0].ports = ports;
    for endpoint in &mut image.services[1].endpoints {
        endpoint.address.set_port(0);
    }
    image
}

fn flags(bed: &Bed) -> Vec<u32> {
    let addresses = array::<AddressValue>(bed, names::ADDRESSES);
    addresses.iter().map(Result::unwrap).filter(|a| a.flags & VIP != 0).map(|a| a.flags & RANGES).collect()
}

#[test]
fn every_port_of_a_range_leads_to_the_service_and_no_other() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    assert_eq!((ranges(&bed).keys().count(), flags(&bed)), (0, vec![0]));

    let range = with_range(PortRange { first: 1000, last: 1999 });
    again(&mut dataplane, &range);
    let service = Some(UDP_SERVICE.get());
    let found = [999, 1000, 1500, 1999, 2000].map(|port| at(&bed, port, 17));
    assert_eq!(found, [None, service, service, service, None]);
    assert_eq!(at(&bed, 1500, 6), None, "of another protocol");
    assert_eq!(flags(&bed), [RANGES]);
    assert_eq!(again(&mut dataplane, &range), Vec::<String>::new());
    // The endpoints keep the client's port, whatever it is: any of theirs may answer.
    let guards = bed.entries_of::<GuardKey4, GuardValue>(names::GUARDS4);
    assert!(guards.iter().any(|(key, _)| (key.port_be, key.protocol) == (0, 17)));

    again(&mut dataplane, &with_range(PortRange::ANY));
    assert_eq!(ranges(&bed).keys().count(), 1);
    assert_eq!([1, 999, 65535].map(|port| at(&bed, port, 17)), [service; 3]);
    again(&mut dataplane, &image());
    assert_eq!((ranges(&bed).keys().count(), flags(&bed)), (0, vec![0]));
}

#[test]
fn records_of_a_range_are_taken_and_end_with_it() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    again(&mut dataplane, &with_range(PortRange { first: 1000, last: 1999 }));
    let mut flow = record(1, version(1, 0));
    flow.key.protocol = Protocol::Udp;
    flow.service = UDP_SERVICE;
    flow.key.service.set_port(1500);
    let mut outside = flow.clone();
    outside.key.service.set_port(2000);
    let outcomes = dataplane.flows().write(&[upsert(flow, 40), upsert(outside, 40)]);
    assert_eq!(outcomes, [WriteOutcome::Applied, WriteOutcome::UnknownGroup]);
    let smaller = with_range(PortRange { first: 1501, last: 1999 });
    assert_eq!(dataplane.apply(&smaller, |_| true).unwrap().flows_ended, 1);
}

#[test]
fn echo_is_found_without_a_port() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut image = with_range(PortRange { first: 1000, last: 1999 });
    image.services[1].protocols.push(Protocol::Icmp);
    again(&mut dataplane, &image);
    let services = bed.entries_of::<ServiceKey4, ServiceRef>(names::SERVICES4);
    let echo = services.iter().find(|(key, _)| key.protocol == 1).unwrap();
    assert_eq!((echo.0.port_be, echo.1.service), (0, UDP_SERVICE.get()));
    let mut flow = record(1, version(1, 0));
    flow.key.protocol = Protocol::Icmp;
    flow.key.service.set_port(0);
    flow.endpoint_address.set_port(0);
    flow.service = UDP_SERVICE;
    assert_eq!(dataplane.flows().write(&[upsert(flow.clone(), 40)]), [WriteOutcome::Applied]);
    let found = &dataplane.flows().walk(None, 10).unwrap().flows[0].record;
    assert_eq!((found.key, found.endpoint_address), (flow.key, flow.endpoint_address));
}
