use super::*;

#[test]
fn routes_raise_the_stamp_once_for_all_that_is_heard_together() {
    let mut rig = Rig::new();
    let before = rig.kernel.stamp;
    let writes = rig.tell([HopEvent::Routes, HopEvent::Routes, HopEvent::Routes]);
    assert_eq!(writes, [Write::RaiseStamp { stamp: before + 1 }]);
    assert_eq!(rig.later(), []);
}

#[test]
fn a_stamp_holds_for_a_while_and_the_change_is_not_forgotten() {
    let mut rig = Rig::new();
    rig.tell([HopEvent::Routes]);
    let stamp = rig.kernel.stamp;
    assert_eq!(rig.table.next_deadline(), None, "nothing is left to do");
    for _ in 0..9 {
        rig.now += MIN_STAMP_LIFE / 10;
        assert_eq!(rig.tell([HopEvent::Routes]), [], "too soon");
    }
    let deadline = rig.table.next_deadline().expect("a change waits");
    assert_eq!(deadline, rig.now + MIN_STAMP_LIFE / 10);
    rig.now = deadline;
    assert_eq!(rig.settle(), [Write::RaiseStamp { stamp: stamp + 1 }]);
}

#[test]
fn a_neighbours_change_does_not_wait_for_the_stamp() {
    let mut rig = Rig::new();
    rig.tell([HopEvent::Routes]);
    let writes = rig.tell([HopEvent::Routes, HopEvent::NeighbourGone(at(ETH0, 11))]);
    assert!(matches!(writes[..], [Write::SetHop { index: 1, value }] if value.flags == 0));
}

#[test]
fn the_stamp_after_the_last_one_is_1() {
    let adopted = Adopted { stamp: u32::MAX, entries: Vec::new() };
    let table = HopTable::sized(BTreeSet::new(), adopted, 8);
    let mut rig = Rig::start(table, Kernel { stamp: u32::MAX, ..Kernel::default() });
    assert_eq!(rig.kernel.stamp, 1, "0 stands for no hop");
    rig.tell([HopEvent::Routes]);
    assert_eq!(rig.kernel.stamp, 2);
}
