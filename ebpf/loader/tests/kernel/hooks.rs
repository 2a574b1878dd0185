//! Where interfaces are attached.

use aya::programs::links::{FdLink, PinnedLink};
use lockstep_loader::{Dataplane, DataplaneConfig, DataplaneError, Hook, InterfaceConfig};

use crate::bed::{Bed, image, ip};

fn with(bed: &Bed, hook: Hook) -> DataplaneConfig {
    let mut config = bed.config();
    config.interfaces[0] = InterfaceConfig { name: "eth0".into(), hook };
    config
}

fn hook(dataplane: &Dataplane) -> Hook {
    dataplane.hooks()[0].hook
}

fn link(bed: &Bed, name: &str) -> Option<aya::programs::links::LinkInfo> {
    let path = bed.schema().join("links").join(name);
    path.exists().then(|| FdLink::from(PinnedLink::from_pin(path).unwrap()).info().unwrap())
}

#[test]
fn auto_says_why() {
    let bed = Bed::new(1024);
    let dataplane = bed.open();
    assert_eq!(hook(&dataplane), Hook::Tc);
    assert!(dataplane.hooks()[0].why.contains("veth"), "{:?}", dataplane.hooks());
}

#[test]
fn xdp_comes_and_goes_with_the_configuration() {
    let bed = Bed::new(1024);
    let generic = Dataplane::open(with(&bed, Hook::XdpGeneric)).unwrap();
    assert_eq!(hook(&generic), Hook::XdpGeneric);
    let first = link(&bed, "eth0:xdp-generic").unwrap();
    drop(generic);

    // The same again: the link stays, its program does not.
    let mut again = Dataplane::open(with(&bed, Hook::XdpGeneric)).unwrap();
    let second = link(&bed, "eth0:xdp-generic").unwrap();
    assert_eq!(first.id(), second.id());
    assert_ne!(first.program_id(), second.program_id());
    assert_eq!(again.apply(&image(), |_| true).unwrap().unfit, vec![]);
    assert_eq!(again.detached().unwrap(), Vec::<String>::new());
    drop(again);

    // A driver's own; veth has it, if its MTU and features allow.
    let native = Dataplane::open(with(&bed, Hook::Xdp)).unwrap();
    assert!(link(&bed, "eth0:xdp-generic").is_none() && link(&bed, "eth0:xdp").is_some());
    assert_eq!(hook(&native), Hook::Xdp);
    drop(native);

    let tc = bed.open();
    assert!(link(&bed, "eth0:xdp").is_none() && link(&bed, "eth0").is_some());
    assert_eq!(tc.detached().unwrap(), Vec::<String>::new());
    tc.detach_and_unpin().unwrap();
    assert!(!bed.pin_dir.exists());
}

#[test]
fn a_driver_without_xdp_is_named() {
    let bed = Bed::new(1024);
    ip("link add silent0 type ifb");
    ip("link set silent0 up");
    let mut config = bed.config();
    config.interfaces.push(InterfaceConfig { name: "silent0".into(), hook: Hook::Xdp });
    let Err(DataplaneError::Attach { interface, reason }) = Dataplane::open(config.clone()) else {
        panic!("an ifb has no native XDP");
    };
    assert_eq!(interface, "silent0");
    assert!(reason.contains("ifb") && reason.contains("xdp-generic or tc"), "{reason}");
}

#[test]
fn a_name_with_a_dot_is_pinned_and_found_again() {
    let bed = Bed::new(1024);
    ip("link add eth1.xdp type veth peer name endpoint1");
    ip("link set eth1.xdp up");
    let mut config = bed.config();
    config.interfaces.push(InterfaceConfig { name: "eth1.xdp".into(), hook: Hook::XdpGeneric });
    let dataplane = Dataplane::open(config.clone()).unwrap();
    assert_eq!(dataplane.detached().unwrap(), Vec::<String>::new());
    drop(dataplane);
    assert!(link(&bed, "eth1:dxdp").is_some() && link(&bed, "eth1:dxdp:xdp-generic").is_some());
    drop(Dataplane::open(config).unwrap());
    drop(bed.open());
    assert!(link(&bed, "eth1:dxdp").is_none() && link(&bed, "eth1:dxdp:xdp-generic").is_none());
    assert!(link(&bed, "eth1").is_some());
}

#[test]
fn another_builds_dataplane_is_refused_until_it_is_purged() {
    let bed = Bed::new(1024);
    drop(bed.serving());
    // As if it were of another schema.
    std::fs::rename(bed.schema(), bed.pin_dir.join("v2")).unwrap();
    let error = Dataplane::open(bed.config()).err().unwrap();
    assert_eq!(error.kind(), "other_build");
    let text = error.to_string();
    assert!(text.contains("v2") && text.contains("eth0, eth1") && text.contains("--purge"), "{text}");
    assert!(!bed.schema().exists(), "nothing was made");
    lockstep_loader::remove(&bed.pin_dir).unwrap();
    assert!(!bed.pin_dir.exists());
    drop(bed.open());
}
