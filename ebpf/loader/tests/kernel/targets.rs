//! Indexes of endpoints and slots of services: given once, kept while somebody needs them.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_abi::flow::{FlowKey4, FlowValue4, ORIGINAL};
use lockstep_abi::map as names;
use lockstep_abi::service::{TargetValue, Timeouts};
use lockstep_model::flow::{FlowKind, FlowRecord, WriteOutcome};
use lockstep_model::ids::Revision;
use lockstep_model::image::Image;
use lockstep_model::intent::Mode;

use crate::apply::{again, array};
use crate::bed::{Bed, TCP_SERVICE, endpoint, image, image_of_both, record, upsert, version};

/// Index by endpoint.
fn targets(bed: &Bed) -> BTreeMap<u64, u32> {
    let values = array::<TargetValue>(bed, names::TARGETS);
    let used = (0..).zip(values.iter().map(Result::unwrap)).filter(|(_, value)| value.endpoint != 0);
    used.map(|(index, value)| (value.endpoint, index)).collect()
}

fn originals(bed: &Bed) -> Vec<FlowValue4> {
    let entries = bed.entries_of::<FlowKey4, FlowValue4>(names::FLOWS4);
    entries.into_iter().map(|(_, value)| value).filter(|value| value.kind() == ORIGINAL).collect()
}

#[test]
fn an_index_stays_while_a_flow_names_it() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let before = targets(&bed);
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [111, 112, 113]);
    assert!(before.values().all(|index| *index > 0), "0 is no index");
    dataplane.flows().write(&[upsert(record(1, version(1, 0)), 40)]);
    let flow = originals(&bed)[0];
    assert_eq!((flow.endpoint, u32::from(flow.target)), (112, before[&112]));

    let mut changed = image();
    for service in &mut changed.services {
        service.revision = Revision(31);
        service.endpoints = vec![endpoint(99)];
    }
    again(&mut dataplane, &changed);
    let after = targets(&bed);
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [112, 199], "flow 1 is with endpoint 12");
    assert_eq!(after[&112], before[&112]);
    assert!(!before.values().any(|index| *index == after[&199]), "nobody's while all three were there");

    // What another process gave stays.
    drop(dataplane);
    let mut dataplane = bed.open();
    again(&mut dataplane, &changed);
    assert_eq!(targets(&bed), after);
    dataplane.flows().purge(crate::bed::GROUP).unwrap();
    again(&mut dataplane, &changed);
    assert_eq!(targets(&bed).keys().copied().collect::<Vec<_>>(), [199]);
    again(&mut dataplane, &Image::default());
    assert_eq!(targets(&bed), BTreeMap::new());
}

#[test]
fn a_services_times_are_its_flows() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut changed = image();
    changed.services[0].timeouts.established = Duration::from_secs(60);
    again(&mut dataplane, &changed);
    let slots = array::<Timeouts>(&bed, names::SERVICE_TIMEOUTS);
    let slot = (0..).zip(slots.iter().map(Result::unwrap)).find(|(_, t)| t.service == TCP_SERVICE.get());
    let (slot, times) = slot.unwrap();
    assert!(slot > 0);
    assert_eq!((times.established_ns, times.new_ns), (60_000_000_000, 10_000_000_000));

    dataplane.flows().write(&[upsert(record(1, version(1, 0)), 40)]);
    assert_eq!(originals(&bed)[0].service_slot, slot);
    let left = || dataplane.flows().walk(None, 10).unwrap().flows[0].record.remaining;
    assert!(left() <= Duration::from_secs(60), "{:?} although it came with more", left());
}

#[test]
fn tunnelled_packets_come_from_the_groups_address() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    let mut image = image_of_both();
    image.services[0].mode = Mode::DsrIpip;
    let report = dataplane.apply(&image, |_| true).unwrap();
    assert_eq!(report.warnings, Vec::<String>::new());
    let addresses = bed.entries::<u32, u32>(names::ADDRESS_INDEX4);
    let floating = addresses[&u32::from_ne_bytes(crate::bed::FLOATING.octets())];
    let values = array::<TargetValue>(&bed, names::TARGETS);
    let sources: BTreeMap<u64, u32> = values
        .iter()
        .map(Result::unwrap)
        .filter(|t| t.endpoint != 0)
        .map(|t| (t.endpoint, t.outer_source))
        .collect();
    // The UDP service has the same IPv4 endpoints, and no tunnel.
    let over6 = bed.entries_of::<[u32; 4], u32>(names::ADDRESS_INDEX6)[0].1;
    assert_eq!((sources[&611], sources[&613]), (over6, over6));
    image.services.truncate(1);
    again(&mut dataplane, &image);
    assert_eq!(values.iter().map(Result::unwrap).find(|t| t.endpoint == 111).unwrap().outer_source, floating);

    // Their flows have no reply, and name the endpoint all the same.
    let mut direct = record(1, version(1, 0));
    direct.kind = FlowKind::DsrIpip;
    direct.endpoint_address.set_port(80);
    assert_eq!(dataplane.flows().write(&[upsert(direct.clone(), 40)]), [WriteOutcome::Applied]);
    assert_eq!(bed.hash::<FlowKey4, FlowValue4>(names::FLOWS4).keys().count(), 1);
    let found = dataplane.flows().walk(None, 10).unwrap().flows.remove(0).record;
    assert_eq!(FlowRecord { remaining: direct.remaining, ..found }, direct);
    assert_eq!(dataplane.flows().purge(crate::bed::GROUP).unwrap(), 1);

    image.groups[0].addresses.retain(|address| address.address.is_ipv4());
    image.services[0].frontends.truncate(1);
    let report = dataplane.apply(&image, |_| true).unwrap();
    assert!(report.warnings[0].contains("no address of their family"), "{:?}", report.warnings);
}
