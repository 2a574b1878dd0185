//! What an earlier process left, and what was missed while events were lost.

use super::*;

fn everything() -> Snapshot {
    Snapshot {
        links: vec![link(ETH0, "eth0"), link(ETH1, "eth1")],
        neighbours: vec![neighbour(ETH0, 11), neighbour(ETH0, 12), permanent(ETH1, 13)],
        ..Snapshot::default()
    }
}

/// Knows `everything()`.
fn rig() -> Rig {
    let mut rig = Rig::sized(64);
    rig.table.replace(everything());
    rig.settle();
    rig.later();
    assert_eq!(rig.table.counts().hops, 3);
    rig
}

#[test]
fn reading_the_same_again_only_raises_the_stamp() {
    let mut rig = rig();
    rig.table.replace(everything());
    let stamp = rig.kernel.stamp + 1;
    assert_eq!(rig.settle(), [Write::RaiseStamp { stamp }]);
}

#[test]
fn reading_again_finds_what_was_missed() {
    type Change = fn(&mut Snapshot);
    type Check = fn(&Rig);
    let cases: [(&str, Change, Check); 7] = [
        (
            "a neighbour moved",
            |all| all.neighbours[0].mac = Some(mac(99)),
            |rig| assert_eq!(rig.hop(ETH0, 11).unwrap().destination_mac, mac(99)),
        ),
        (
            "a neighbour failed",
            |all| all.neighbours[0].state = 0x20,
            |rig| assert_eq!(rig.hop(ETH0, 11), None),
        ),
        (
            "a neighbour went",
            |all| all.neighbours.retain(|neighbour| neighbour.key != at(ETH0, 11)),
            |rig| {
                assert_eq!(rig.hop(ETH0, 11), None);
                assert!(rig.kernel.index.contains_key(&at(ETH0, 11)), "it keeps its index");
            },
        ),
        (
            "a neighbour came",
            |all| all.neighbours.push(neighbour(ETH1, 14)),
            |rig| assert!(rig.hop(ETH1, 14).is_some()),
        ),
        (
            "a link went down",
            |all| all.links[0].running = false,
            |rig| {
                assert_eq!((rig.hop(ETH0, 11), rig.hop(ETH0, 12)), (None, None));
                assert!(rig.hop(ETH1, 13).is_some());
            },
        ),
        (
            "a link went, and its neighbours",
            |all| {
                all.links.remove(0);
                all.neighbours.drain(..2);
            },
            |rig| assert_eq!(rig.kernel.index.keys().collect::<Vec<_>>(), [&at(ETH1, 13)]),
        ),
        (
            "another device took a link's number",
            |all| {
                all.links[0] = Link { mac: Some(mac(220)), mtu: 1300, kind: None, ..link(ETH0, "dmz") };
                all.neighbours.drain(1..2);
                all.neighbours[0].mac = Some(mac(98));
            },
            |rig| {
                let hop = rig.hop(ETH0, 11).unwrap();
                let expected = (mac(220), mac(98), 1300, USABLE);
                assert_eq!((hop.source_mac, hop.destination_mac, hop.mtu, hop.flags), expected);
                assert_eq!(rig.hop(ETH0, 12), None);
            },
        ),
    ];
    for (name, change, check) in cases {
        println!("{name}");
        let mut rig = rig();
        let mut snapshot = everything();
        change(&mut snapshot);
        rig.table.replace(snapshot.clone());
        let writes = rig.settle();
        assert_eq!(raised(&writes), 1, "{name}: routes may have changed as well");
        check(&rig);
        // And it stays so.
        rig.later();
        rig.table.replace(snapshot);
        assert_eq!(rig.settle().len(), 1, "{name}");
        check(&rig);
    }
}

#[test]
fn a_blind_table_has_no_hops_until_it_is_read() {
    let mut rig = rig();
    rig.table.blind();
    rig.settle();
    assert!(rig.kernel.hops.values().all(|hop| hop.flags == 0));
    assert_eq!(rig.kernel.index.len(), 3);
    assert_eq!(rig.table.refreshable().count(), 0);
    rig.later();
    rig.table.replace(everything());
    rig.settle();
    assert_eq!(rig.table.counts().hops, 3);
    assert_eq!(rig.hop(ETH0, 12).unwrap().destination_mac, mac(12));
}

#[test]
fn a_new_process_keeps_indexes_and_believes_nothing_else() {
    let before = rig();
    let value = |host| before.hop(ETH0, host).unwrap();
    let entries = vec![
        (at(ETH0, 11), 7, HopValue { destination_mac: mac(50), ..value(11) }),
        (at(ETH0, 77), 9, value(12)),
        (at(5, 11), 12, value(12)),
    ];
    let mut kernel = Kernel { stamp: 41, ..Kernel::default() };
    for (key, index, value) in &entries {
        kernel.index.insert(*key, *index);
        kernel.hops.insert(*index, *value);
    }
    // Freed by the process that died: flows may name any other index as well.
    kernel.resting = (1..16).filter(|index| ![7, 9, 12].contains(index)).map(|index| (index, 0)).collect();
    let mut table = HopTable::sized(BTreeSet::new(), Adopted { stamp: 41, entries }, 16);
    table.replace(everything());
    let rig = Rig::start(table, kernel);

    assert_eq!(rig.kernel.stamp, 42);
    assert_eq!(rig.table.counts().full, 0);
    assert_eq!(rig.kernel.index[&at(ETH0, 11)], 7);
    assert_eq!(rig.hop(ETH0, 11).unwrap().destination_mac, mac(11));
    assert_eq!(rig.hop(ETH0, 77), None, "no such neighbour now");
    assert!(!rig.kernel.index.contains_key(&at(5, 11)), "no such link now");
    assert!(rig.hop(ETH0, 12).is_some() && rig.hop(ETH1, 13).is_some());
}

#[test]
fn entries_that_cannot_be_are_removed() {
    let entries = vec![
        (at(ETH0, 11), 0, HopValue::default()),
        (at(ETH0, 12), 16, HopValue::default()),
        (at(ETH0, 13), 3, HopValue::default()),
        (at(ETH0, 14), 3, HopValue::default()),
    ];
    let mut table = HopTable::sized(BTreeSet::new(), Adopted { stamp: 1, entries }, 16);
    let mut removed = Vec::new();
    while let Some(write) = table.next_write() {
        removed.push(write);
        table.written();
    }
    let expected = [11, 12, 14].map(|host| Write::RemoveIndex { key: at(ETH0, host) });
    assert_eq!(removed, expected);
}
