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

#[test]
fn a_rule_that_asks_for_more_is_told_before_the_stamp() {
    let mut rig = Rig::new();
    rig.table.replace(Snapshot::default());
    rig.settle();
    rig.later();
    assert_eq!(rig.kernel.by_destination, Some(true));
    let stamp = rig.kernel.stamp + 1;
    let writes = rig.tell([HopEvent::Rule(true)]);
    assert_eq!(writes, [Write::ByDestination(false), Write::RaiseStamp { stamp }]);
    // One that does not makes nothing better; that it is gone, only a list of all tells.
    rig.later();
    rig.tell([HopEvent::Rule(false), HopEvent::RuleGone]);
    assert_eq!(rig.kernel.by_destination, Some(false));
    rig.table.replace(Snapshot { by_destination: false, ..Snapshot::default() });
    assert!(!rig.later().contains(&Write::ByDestination(true)));
    rig.table.replace(Snapshot::default());
    assert!(rig.later().contains(&Write::ByDestination(true)));
}

#[test]
fn a_new_process_believes_no_earlier_one_about_rules() {
    for by_destination in [true, false] {
        let mut rig = Rig::sized(64);
        rig.table.replace(Snapshot { by_destination, ..Snapshot::default() });
        rig.later();
        assert_eq!(rig.kernel.by_destination, Some(by_destination));
    }
}
