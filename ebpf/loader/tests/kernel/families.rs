//! Both families side by side.

use std::collections::HashSet;
use std::time::Duration;

use lockstep_abi::flow::{FlowKey6, FlowValue6};
use lockstep_abi::map as names;
use lockstep_abi::service::{GuardKey6, GuardValue, ServiceKey6, ServiceRef, ServiceVersion};
use lockstep_model::flow::{FlowChange, FlowRecord, FlowState, WriteOutcome};
use lockstep_model::image::Image;

use crate::apply::{again, array};
use crate::bed::{Bed, GROUP, VIP6, image_of_both, record, record6, remove, upsert, version};
use crate::sweeper::{own, pass};

fn serving(bed: &Bed) -> lockstep_loader::Dataplane {
    let mut dataplane = bed.open();
    let report = dataplane.apply(&image_of_both(), |_| true).unwrap();
    assert_eq!((report.unfit, report.warnings), (vec![], vec![]));
    dataplane
}

#[test]
fn a_service_of_both_families_has_a_version_for_each() {
    let bed = Bed::new(1024);
    let mut dataplane = serving(&bed);
    assert_eq!(again(&mut dataplane, &image_of_both()), Vec::<String>::new());
    let services = bed.hash::<ServiceKey6, ServiceRef>(names::SERVICES6);
    let (key, current) = services.iter().next().unwrap().unwrap();
    assert_eq!((key.port_be, key.protocol), (80u16.to_be(), 6));
    assert_eq!(key.vip_be.map(u32::to_ne_bytes).concat(), VIP6.octets());
    let version = array::<ServiceVersion>(&bed, names::VERSIONS).get(&current.version_slot, 0).unwrap();
    assert_eq!((version.family, version.endpoint_count), (6, 3));
    // Three endpoints: TCP, and the address alone.
    assert_eq!(bed.hash::<GuardKey6, GuardValue>(names::GUARDS6).keys().count(), 6);
    assert_eq!(dataplane.answering(GROUP).unwrap().iter().filter(|answer| answer.address == VIP6).count(), 1);

    again(&mut dataplane, &Image::default());
    assert_eq!(bed.hash::<ServiceKey6, ServiceRef>(names::SERVICES6).keys().count(), 0);
    assert_eq!(bed.hash::<GuardKey6, GuardValue>(names::GUARDS6).keys().count(), 0);
    assert_eq!(bed.hash::<[u32; 4], u32>(names::ADDRESS_INDEX6).keys().count(), 0);
}

#[test]
fn ipv6_forwards_by_all_interfaces_and_what_stood_there_comes_back() {
    const ALL: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
    let all = || std::fs::read_to_string(ALL).unwrap().trim().to_owned();
    let bed = Bed::new(1024);
    std::fs::write(ALL, "0").unwrap();
    drop(serving(&bed));
    assert_eq!(all(), "1");
    // Found on by the next process, which did not switch it.
    bed.open().detach_and_unpin().unwrap();
    assert_eq!(all(), "0");

    std::fs::write(ALL, "1").unwrap();
    bed.open().detach_and_unpin().unwrap();
    assert_eq!(all(), "1");
}

#[test]
fn what_is_written_over_ipv6_is_walked_after_ipv4() {
    let bed = Bed::new(4096);
    let dataplane = serving(&bed);
    let table = dataplane.flows();
    let both = |client| {
        let at = version(u64::from(client), 1);
        [upsert(record(client, at), 40), upsert(record6(client, at), 40)]
    };
    let ops: Vec<_> = (0..1000).flat_map(both).collect();
    assert!(table.write(&ops).iter().all(|outcome| *outcome == WriteOutcome::Applied));
    assert_eq!(table.count().unwrap(), 2000);

    let mut walked = Vec::new();
    let mut cursor = None;
    loop {
        let page = table.walk(cursor, 300).unwrap();
        walked.extend(page.flows.into_iter().map(|flow| flow.record));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(walked[..1000].iter().all(|record| record.key.client.is_ipv4()));
    assert!(walked[1000..].iter().all(|record| record.key.client.is_ipv6()));
    let keys: HashSet<_> = walked.iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), 2000);
    let sixth = walked.iter().find(|found| found.key == record6(6, version(0, 0)).key).unwrap();
    let written = record6(6, version(6, 1));
    assert_eq!(FlowRecord { remaining: written.remaining, ..sixth.clone() }, written);

    assert_eq!(table.write(&[remove(&written, version(6, 1), 40)]), [WriteOutcome::Applied]);
    assert_eq!(bed.hash::<FlowKey6, FlowValue6>(names::FLOWS6).keys().count(), 2 * 999);
    assert_eq!(table.purge(GROUP).unwrap(), 1999);
    assert_eq!(table.count().unwrap(), 0);
}

#[test]
fn an_idle_flow_over_ipv6_ends_and_is_told() {
    let bed = Bed::new(1024);
    let dataplane = serving(&bed);
    let idle = FlowRecord {
        state: FlowState::New,
        state_bits: lockstep_abi::state::NEW | lockstep_abi::state::SEEN,
        remaining: Duration::ZERO,
        ..record6(1, version(7, 2))
    };
    dataplane.flows().write(&[upsert(idle.clone(), 40), upsert(record6(2, version(7, 2)), 40)]);
    own(&bed, &dataplane, Duration::from_secs(60));
    let swept = pass(&mut dataplane.sweeper());
    let told = FlowChange::Remove { key: idle.key, group: GROUP, version: version(7, 3) };
    assert_eq!((swept.ended, swept.live, swept.removed), (1, Some(2), vec![told]));
}

#[test]
fn a_service_that_loses_its_ipv6_vip_keeps_its_ipv4_flows() {
    let bed = Bed::new(1024);
    let mut dataplane = serving(&bed);
    dataplane.flows().write(&[upsert(record(1, version(1, 0)), 40), upsert(record6(1, version(1, 0)), 40)]);
    let mut image = image_of_both();
    image.groups[0].addresses.pop();
    image.services[0].frontends.pop();
    assert_eq!(dataplane.apply(&image, |_| true).unwrap().flows_ended, 1);
    assert_eq!(dataplane.flows().walk(None, 100).unwrap().flows[0].record.key, record(1, version(1, 0)).key);
}
