//! I12: what one process made, the next one finds.

use lockstep_loader::{Dataplane, DataplaneConfig, DataplaneError, FlowTable, Hook, InterfaceConfig};
use lockstep_model::flow::WriteOutcome;

use crate::bed::{Bed, image, interface, ip, record, upsert, version};

fn forwarding(interface: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{interface}/forwarding"))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn i12_a_restarted_daemon_forgets_no_flow() {
    let bed = Bed::new(1024);
    let first = bed.serving();
    assert!(!first.adopted());
    let op = upsert(record(1, version(5, 0)), 40);
    assert_eq!(first.flows().write(std::slice::from_ref(&op)), [WriteOutcome::Applied]);
    let before = first.flows().walk(None, 4096).unwrap().flows;
    drop(first);

    let mut second = bed.open();
    assert!(second.adopted());
    let report = second.apply(&image(), |_| true).unwrap();
    assert_eq!(report.changes, Vec::<String>::new(), "an adopted dataplane needs no change");
    let after = second.flows().walk(None, 4096).unwrap().flows;
    assert_eq!(before[0].record.key, after[0].record.key);
    assert_eq!(before.len(), after.len());

    // Somebody who only looks sees the same.
    let offline = FlowTable::open_pinned(&bed.pin_dir).unwrap();
    assert_eq!(offline.count().unwrap(), 1);
}

#[test]
fn programs_are_replaced_in_place() {
    let bed = Bed::new(1024);
    let link_id = || aya::programs::links::PinnedLink::from_pin(bed.schema().join("links/eth0")).unwrap();
    drop(bed.open());
    let first = aya::programs::links::FdLink::from(link_id()).info().unwrap();
    drop(bed.open());
    let second = aya::programs::links::FdLink::from(link_id()).info().unwrap();
    assert_eq!(first.id(), second.id(), "the link stayed");
    assert_ne!(first.program_id(), second.program_id(), "its program did not");
    let stages = std::fs::read_dir(bed.schema().join("stages")).unwrap().count();
    assert_eq!(stages, 2, "only the attached build's tail calls are kept, those of tc and of XDP");
}

#[test]
fn i10_forwarding_begins_when_the_addresses_are_known() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    assert_eq!(forwarding("eth0"), "0", "a packet for an address of a group would be routed");
    dataplane.apply(&image(), |_| true).unwrap();
    assert_eq!(forwarding("eth0"), "1");
}

#[test]
fn an_interface_that_was_made_anew_is_attached_again() {
    let bed = Bed::new(1024);
    drop(bed.open());
    ip("link delete eth0");
    assert!(
        matches!(Dataplane::open(bed.config()), Err(DataplaneError::NoInterface { name }) if name == "eth0")
    );
    ip("link add eth0 type veth peer name client0");
    ip("link set eth0 up");
    assert_eq!(bed.open().detached().unwrap(), Vec::<String>::new());
    assert_eq!(forwarding("eth0"), "1");
}

#[test]
fn i12_an_interface_that_returns_is_attached_without_a_restart() {
    let bed = Bed::new(1024);
    let config = DataplaneConfig {
        interfaces: vec![InterfaceConfig { name: "eth0".into(), hook: Hook::XdpGeneric }, interface("eth1")],
        ..bed.config()
    };
    let mut dataplane = Dataplane::open(config).unwrap();
    dataplane.apply(&image(), |_| true).unwrap();
    assert_eq!(dataplane.reattach().unwrap(), [], "nothing is missing");

    ip("link delete eth0");
    assert_eq!(dataplane.detached().unwrap(), ["eth0"]);
    assert_eq!(dataplane.reattach().unwrap(), [], "it is not there");
    let without = dataplane.apply(&image(), |_| true).unwrap();
    assert_eq!(without.unfit.len(), 1, "the VIP has no interface, and the rest is still kept");

    ip("link add eth0 type veth peer name client0");
    ip("address add 192.0.2.2/24 dev eth0");
    ip("link set eth0 up");
    let reports = dataplane.reattach().unwrap();
    assert_eq!(
        reports.iter().map(|r| (r.interface.as_str(), r.hook)).collect::<Vec<_>>(),
        [("eth0", Hook::XdpGeneric)]
    );
    assert_eq!(dataplane.detached().unwrap(), Vec::<String>::new());
    assert_eq!(forwarding("eth0"), "1");
    assert_eq!(dataplane.apply(&image(), |_| true).unwrap().unfit, vec![]);
    let (_, programs) =
        aya::programs::SchedClassifier::query_tcx("eth0", aya::programs::TcAttachType::Ingress).unwrap();
    assert_eq!(programs.len(), 1);
}

#[test]
fn what_somebody_else_detached_is_attached_again() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.serving();
    let pin = bed.schema().join("links/eth1");
    let link = aya::programs::links::FdLink::from(aya::programs::links::PinnedLink::from_pin(&pin).unwrap());
    aya::programs::Link::detach(link).unwrap();
    std::fs::remove_file(&pin).unwrap();
    // The kernel lets go of a link some time after its last pin.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let attached = || aya::programs::SchedClassifier::query_tcx("eth1", aya::programs::TcAttachType::Ingress);
    while !attached().unwrap().1.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the program is still attached");
        std::thread::yield_now();
    }
    assert_eq!(dataplane.detached().unwrap(), ["eth1"]);
    assert_eq!(dataplane.reattach().unwrap().len(), 1);
    assert_eq!(dataplane.detached().unwrap(), Vec::<String>::new());
}

#[test]
fn pins_of_another_shape_are_refused_and_untouched() {
    let bed = Bed::new(1024);
    drop(bed.serving());
    let other = DataplaneConfig { max_flows: 2048, ..bed.config() };
    let error = Dataplane::open(other).err().expect("the sizes differ").to_string();
    assert!(error.contains("FLOWS4") && error.contains("entries is 2048, needed is 4096"), "{error}");
    assert!(bed.open().adopted());
}

#[test]
fn a_pin_directory_elsewhere_is_refused() {
    let bed = Bed::new(1024);
    let folder = tempfile::tempdir().unwrap();
    let config = DataplaneConfig { pin_dir: folder.path().join("pins"), ..bed.config() };
    let error = Dataplane::open(config).err().expect("no BPF file system").to_string();
    assert!(error.contains("is not on a BPF file system"), "{error}");
}

#[test]
fn removal_leaves_nothing_behind() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    assert_eq!(forwarding("eth0"), "1");
    dataplane.detach_and_unpin().unwrap();
    assert!(!bed.pin_dir.exists());
    assert_eq!(forwarding("eth0"), "0");
    let (_, programs) =
        aya::programs::SchedClassifier::query_tcx("eth0", aya::programs::TcAttachType::Ingress).unwrap();
    assert!(programs.is_empty());
}

#[test]
fn removal_from_elsewhere_leaves_a_namesake_alone() {
    let bed = Bed::new(1024);
    drop(bed.serving());
    // Another namespace, where the names and numbers are the same.
    let other = Bed::another(1024);
    std::fs::write("/proc/sys/net/ipv4/conf/eth0/forwarding", "1").unwrap();
    drop(bed);
    assert_eq!(forwarding("eth0"), "1");
    drop(other);
}

#[test]
fn an_interface_no_longer_named_is_released() {
    let bed = Bed::new(1024);
    drop(bed.open());
    let config = DataplaneConfig { interfaces: vec![interface("eth1")], ..bed.config() };
    drop(Dataplane::open(config).unwrap());
    let (_, programs) =
        aya::programs::SchedClassifier::query_tcx("eth0", aya::programs::TcAttachType::Ingress).unwrap();
    assert!(programs.is_empty());
    assert_eq!(forwarding("eth0"), "0");
}
