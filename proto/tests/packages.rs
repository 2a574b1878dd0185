//! The descriptors that reflection serves name every package and service.

use prost::Message;

#[test]
fn reflection_knows_every_package_and_service() {
    let descriptors = prost_types::FileDescriptorSet::decode(lockstep_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut services: Vec<String> = descriptors
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(|s| format!("{}.{}", file.package(), s.name())))
        .collect();
    services.sort();
    let expected = [
        "lockstep.admin.v1.Admin",
        "lockstep.health.v1.Health",
        "lockstep.inspect.v1.Inspect",
        "lockstep.raft.v1.Cluster",
        "lockstep.raft.v1.Raft",
        "lockstep.sync.v1.Sync",
    ];
    assert_eq!(services, expected);
    let packages = descriptors.file.iter().map(|f| f.package());
    assert!(
        packages.clone().any(|p| p == "lockstep.lease.v1")
            && packages.clone().any(|p| p == "lockstep.types.v1")
    );
}

/// Every enum has UNSPECIFIED at 0, so that a field that was never set is not taken for a value.
#[test]
fn zero_is_unspecified_in_every_enum() {
    let descriptors = prost_types::FileDescriptorSet::decode(lockstep_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut seen = 0;
    for file in &descriptors.file {
        for enumeration in &file.enum_type {
            let zero = enumeration.value.iter().find(|v| v.number() == 0).unwrap();
            assert!(zero.name().ends_with("_UNSPECIFIED"), "{}: {}", file.package(), zero.name());
            seen += 1;
        }
    }
    assert!(seen > 8);
}
