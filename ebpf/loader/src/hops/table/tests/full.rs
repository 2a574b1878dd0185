use super::*;

/// Three indexes (of four; 0 is none), all taken, and the table settled.
fn full() -> Rig {
    let mut rig = Rig::sized(4);
    rig.tell([HopEvent::Link(link(ETH0, "eth0"))]);
    rig.later();
    rig.tell((11..14).map(|host| HopEvent::Neighbour(neighbour(ETH0, host))));
    assert_eq!(rig.table.counts().hops, 3);
    rig
}

#[test]
fn a_neighbour_beyond_the_limit_is_left_out_and_counted() {
    let mut rig = full();
    assert_eq!(rig.tell([HopEvent::Neighbour(neighbour(ETH0, 20))]), []);
    // Again, and another state: still one.
    let again = Neighbour { state: 0x04, ..neighbour(ETH0, 20) };
    assert_eq!(rig.tell([HopEvent::Neighbour(again)]), []);
    let counts = rig.table.counts();
    assert_eq!((counts.hops, counts.left_out, counts.full), (3, 1, 1));
    assert_eq!(rig.later(), [], "nothing is in vain repeated");

    rig.tell([HopEvent::NeighbourGone(at(ETH0, 20))]);
    assert_eq!(rig.table.counts().left_out, 0);
}

#[test]
fn a_place_that_becomes_free_goes_to_one_that_waits_under_a_new_stamp() {
    let mut rig = full();
    rig.tell([HopEvent::Neighbour(neighbour(ETH0, 20))]);
    let index = rig.kernel.index[&at(ETH0, 12)];
    let writes = rig.tell([HopEvent::NeighbourGone(at(ETH0, 12))]);
    let order: Vec<&str> = writes
        .iter()
        .map(|write| match write {
            Write::SetHop { value, .. } if value.flags == 0 => "unusable",
            Write::SetHop { .. } => "hop",
            Write::SetIndex { .. } => "key",
            Write::RemoveIndex { .. } => "no key",
            Write::RaiseStamp { .. } => "stamp",
            Write::ByDestination(_) => "rules",
            Write::WaitGrace => "grace",
        })
        .collect();
    assert_eq!(order, ["unusable", "no key", "stamp", "grace", "hop", "key"]);
    assert_eq!(rig.kernel.index[&at(ETH0, 20)], index);
    assert_eq!(rig.table.counts().left_out, 0);
}

#[test]
fn neighbours_that_come_and_go_at_the_limit_raise_the_stamp_no_faster_than_routes_do() {
    let mut rig = full();
    let before = rig.table.counts().raises;
    for round in 0..50u8 {
        rig.now += MIN_STAMP_LIFE / 50;
        rig.tell([
            HopEvent::Neighbour(neighbour(ETH0, 100 + round)),
            HopEvent::NeighbourGone(at(ETH0, 100 + round.saturating_sub(3))),
            HopEvent::NeighbourGone(at(ETH0, 11 + round % 3)),
        ]);
    }
    assert!(rig.table.counts().raises <= before + 2);
}

#[test]
fn the_whole_table_fits_and_not_one_more() {
    let mut rig = Rig::sized(MAX_HOPS);
    rig.tell([HopEvent::Link(link(ETH0, "eth0"))]);
    rig.later();
    for number in 0..MAX_HOPS + 10 {
        let [.., high, low] = number.to_be_bytes();
        let key = key(ETH0, IpAddr::from([10, 1, high, low]));
        rig.table.handle(HopEvent::Neighbour(Neighbour { key, ..neighbour(ETH0, 1) }));
    }
    // The model's checks of every write are too slow for as many; the last ones will do.
    let mut indexes = BTreeSet::new();
    while let Some(write) = rig.table.next_write() {
        if let Write::SetIndex { index, .. } = write {
            assert!(index != 0 && index < MAX_HOPS && indexes.insert(index));
        }
        rig.table.written();
    }
    assert_eq!(indexes.len(), MAX_HOPS as usize - 1);
    let counts = rig.table.counts();
    assert_eq!((counts.hops, counts.left_out), (u64::from(MAX_HOPS) - 1, 11));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut rig = Rig::sized(4);
    for number in 0..MAX_NEIGHBOURS as u32 + 5 {
        let [.., high, low] = number.to_be_bytes();
        let key = key(ETH0, IpAddr::from([10, 1, high, low]));
        rig.table.handle(HopEvent::Neighbour(Neighbour { key, ..neighbour(ETH0, 1) }));
    }
    assert_eq!(rig.table.neighbours.len(), MAX_NEIGHBOURS);
    assert_eq!(rig.table.counts().not_tracked, 5);
}
