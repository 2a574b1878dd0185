//! What an onlooker sees of it.

use lockstep_loader::{Hook, pinned, pins_fit, programs_at_tcx};

use crate::bed::{Bed, ip};

#[test]
fn what_is_pinned_and_attached_is_told_and_left_alone() {
    let bed = Bed::new(1024);
    assert_eq!(pinned(&bed.pin_dir).unwrap(), []);
    drop(bed.open());

    let schemas = pinned(&bed.pin_dir).unwrap();
    assert_eq!(schemas.len(), 1);
    assert!(schemas[0].current && schemas[0].path == bed.schema());
    let links = &schemas[0].links;
    let names: Vec<_> = links.iter().map(|link| (link.interface.as_str(), link.hook)).collect();
    assert_eq!(names, [("eth0", Hook::Tc), ("eth1", Hook::Tc)]);
    let programs = programs_at_tcx("eth0").unwrap();
    assert_eq!(programs.iter().map(|program| program.id).collect::<Vec<_>>(), [links[0].program]);
    assert_eq!(programs[0].name, "tc_entry");

    pins_fit(&bed.pin_dir, 1024).unwrap();
    let error = pins_fit(&bed.pin_dir, 2048).expect_err("the sizes differ").to_string();
    assert!(error.contains("FLOWS4"), "{error}");

    ip("link delete eth0");
    let gone = pinned(&bed.pin_dir).unwrap();
    assert_eq!(gone[0].links[0].ifindex, 0, "and its interface has gone");
    assert_eq!(gone[0].links[1], links[1]);
}
