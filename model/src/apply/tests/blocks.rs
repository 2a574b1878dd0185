//! Port blocks (I8).

use std::net::IpAddr;

use super::snat::{rule, snat};
use super::{accepted, change, group, service, serving};
use crate::command::{Change, Command};
use crate::ids::{LogIndex, NodeId};
use crate::image::{AddressImage, desired};
use crate::limits::{FIRST_PORT_BLOCKS, PORT_BLOCKS};
use crate::state::{Applied, Refusal, State, apply};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn allocate(state: &mut State, index: u64, to: &str, count: u8) -> Applied {
    apply(state, LogIndex(index), &Command::AllocatePortBlocks { address: address(to), count })
}

fn release(state: &mut State, index: u64, of: &str, blocks: u64) -> Applied {
    apply(state, LogIndex(index), &Command::ReleasePortBlocks { address: address(of), blocks })
}

#[track_caller]
fn unchanged(applied: Applied) -> String {
    match applied {
        Applied::Unchanged { lines, .. } => lines.concat(),
        other => panic!("not unchanged: {other:?}"),
    }
}

fn image_of(state: &State, of: &str) -> AddressImage {
    let image = desired(state, NodeId(1));
    let mut all = image.groups.iter().flat_map(|group| group.addresses.iter().copied());
    all.find(|a| a.address == address(of)).expect("a group has it")
}

#[test]
fn i8_an_address_that_flows_leave_with_has_blocks() {
    let (mut state, _) = serving();
    // The VIP of mode nat is the source of hairpin flows; the floating address of nothing yet.
    assert_eq!(state.port_blocks.get(&address("192.0.2.10")), Some(&FIRST_PORT_BLOCKS));
    assert_eq!(state.port_blocks.get(&address("10.0.0.1")), None);
    assert!(image_of(&state, "192.0.2.10").snat);
    let floating = image_of(&state, "10.0.0.1");
    assert!(floating.floating && !floating.vip && !floating.snat && floating.port_blocks == 0);

    let mut arm = service("arm", "edge", "192.0.2.11", 80);
    arm.mode = crate::intent::Mode::OneArm;
    arm.on_miss = crate::intent::OnMiss::Drop;
    accepted(change(&mut state, 6, vec![Change::UpsertService(arm)]));
    assert!(image_of(&state, "10.0.0.1").snat);
    assert!(!image_of(&state, "192.0.2.11").snat, "one-arm flows do not leave with the VIP");
    let egress = rule("egress", "10.0.0.0/24", snat(&["192.0.2.20", "192.0.2.21"]));
    accepted(change(&mut state, 7, vec![Change::UpsertSnatRule(egress)]));
    assert_eq!(image_of(&state, "192.0.2.21").port_blocks, FIRST_PORT_BLOCKS);
}

#[test]
fn i8_blocks_are_allocated_from_the_lowest_until_there_are_no_more() {
    let (mut state, _) = serving();
    let revision = state.revision;
    assert_eq!(
        accepted(allocate(&mut state, 6, "192.0.2.10", 2)),
        ["address/192.0.2.10 has 2 port blocks more"]
    );
    assert_eq!(state.blocks(address("192.0.2.10")), FIRST_PORT_BLOCKS | 0b110);
    assert_eq!(state.revision, revision, "no change of intent");
    assert_eq!(
        accepted(allocate(&mut state, 7, "192.0.2.10", 63)),
        ["address/192.0.2.10 has 57 port blocks more"]
    );
    assert_eq!(state.blocks(address("192.0.2.10")), PORT_BLOCKS);
    let before = state.clone();
    assert!(unchanged(allocate(&mut state, 8, "192.0.2.10", 1)).contains("it has every port block"));
    assert_eq!(state, before);

    for count in [0, 64] {
        let refusal = allocate(&mut state, 8, "192.0.2.10", count);
        assert!(matches!(refusal, Applied::Refused(Refusal::Invalid { .. })), "{refusal:?}");
    }
    let refusal = allocate(&mut state, 8, "10.0.0.1", 1);
    assert!(matches!(refusal, Applied::Refused(Refusal::NotFound { .. })), "{refusal:?}");
    assert_eq!(state, before);
}

#[test]
fn i8_the_last_block_is_kept() {
    let (mut state, _) = serving();
    accepted(allocate(&mut state, 6, "192.0.2.10", 1));
    accepted(release(&mut state, 7, "192.0.2.10", FIRST_PORT_BLOCKS | 1 << 60));
    assert_eq!(state.blocks(address("192.0.2.10")), 0b10);
    let before = state.clone();
    assert!(unchanged(release(&mut state, 8, "192.0.2.10", u64::MAX)).contains("keeps at least one"));
    assert!(unchanged(release(&mut state, 8, "192.0.2.10", 1 << 5)).contains("has none of these"));
    assert_eq!(state, before);
}

#[test]
fn i8_an_address_that_leaves_its_group_forgets_its_blocks_and_no_other_does() {
    let (mut state, _) = serving();
    accepted(allocate(&mut state, 6, "192.0.2.10", 3));
    let more = state.blocks(address("192.0.2.10"));
    let mut web = service("web", "edge", "192.0.2.10", 443);
    web.mode = crate::intent::Mode::DsrL2;
    web.endpoints.iter_mut().for_each(|e| e.address.set_port(0));
    accepted(change(&mut state, 7, vec![Change::UpsertService(web)]));
    assert_eq!(state.port_blocks[&address("192.0.2.10")], more, "flows of before still leave with it");
    assert_eq!(image_of(&state, "192.0.2.10").port_blocks, 0, "and nobody makes new ones");

    let moved = vec![
        Change::UpsertGroup(group("core", &[])),
        Change::UpsertService(service("web", "core", "192.0.2.10", 443)),
    ];
    accepted(change(&mut state, 8, moved));
    assert_eq!(state.port_blocks[&address("192.0.2.10")], FIRST_PORT_BLOCKS, "another group begins anew");
    accepted(change(&mut state, 9, vec![Change::DeleteService("web".into())]));
    assert!(state.port_blocks.is_empty());
}

#[test]
fn a_state_of_a_version_without_blocks_has_the_first() {
    let (mut state, _) = serving();
    state.port_blocks.clear();
    assert_eq!(image_of(&state, "192.0.2.10").port_blocks, FIRST_PORT_BLOCKS);
    accepted(allocate(&mut state, 6, "192.0.2.10", 1));
    assert_eq!(state.blocks(address("192.0.2.10")), FIRST_PORT_BLOCKS | 0b10);
}
