//! Any events in any order: the kernel's model refuses unsafe writes, and at rest the maps say what was told.

use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What was told last.
#[derive(Default)]
struct Truth {
    links: BTreeMap<u32, Link>,
    neighbours: BTreeMap<HopKey, Neighbour>,
}

impl Truth {
    fn change(&mut self, random: &mut Random) -> HopEvent {
        let ifindex = 2 + random.below(3) as u32;
        let host = 1 + random.below(4) as u8;
        match random.below(10) {
            0 => {
                self.links.remove(&ifindex);
                self.neighbours.retain(|key, _| key.ifindex != ifindex);
                HopEvent::LinkGone(ifindex)
            }
            1..4 => {
                let name = format!("eth{}", random.below(2));
                let running = random.below(3) > 0;
                let link = Link { running, mtu: 1400 + random.below(3) as u32, ..link(ifindex, &name) };
                self.links.insert(ifindex, link.clone());
                HopEvent::Link(link)
            }
            4 => HopEvent::Routes,
            5 | 6 => {
                self.neighbours.remove(&at(ifindex, host));
                HopEvent::NeighbourGone(at(ifindex, host))
            }
            _ => {
                let state = [0x01, 0x02, 0x04, 0x20][random.below(4) as usize];
                let mac = Some(mac(random.below(3) as u8));
                let neighbour = Neighbour { mac, state, ..neighbour(ifindex, host) };
                self.neighbours.insert(neighbour.key, neighbour.clone());
                HopEvent::Neighbour(neighbour)
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            links: self.links.values().cloned().collect(),
            neighbours: self.neighbours.values().cloned().collect(),
            ..Snapshot::default()
        }
    }

    fn hop(&self, key: &HopKey) -> Option<HopValue> {
        let neighbour =
            self.neighbours.get(key).filter(|neighbour| [0x02, 0x04].contains(&neighbour.state))?;
        let link = self.links.get(&key.ifindex).filter(|link| link.running)?;
        Some(HopValue {
            ifindex: key.ifindex,
            mtu: link.mtu,
            destination_mac: neighbour.mac?,
            source_mac: OWN,
            flags: if link.name == "eth0" { USABLE | XDP } else { USABLE },
            pad: 0,
        })
    }
}

#[test]
fn whatever_happens_the_maps_say_what_was_told() {
    for seed in 1..300u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Room for all, for some, for almost none.
        let max_hops = [64, 6, 2][seed as usize % 3];
        let mut rig = Rig::sized(max_hops);
        let mut truth = Truth::default();
        for _ in 0..60 {
            let events: Vec<HopEvent> = (0..random.below(6)).map(|_| truth.change(&mut random)).collect();
            if random.below(8) == 0 {
                rig.table.replace(truth.snapshot());
            } else {
                events.into_iter().for_each(|event| rig.table.handle(event));
            }
            rig.now += MIN_STAMP_LIFE / 4;
            rig.settle();
            check(&rig, &truth, max_hops, seed, false);
        }
        rig.later();
        rig.later();
        check(&rig, &truth, max_hops, seed, true);
    }
}

fn check(rig: &Rig, truth: &Truth, max_hops: u32, seed: u64, at_rest: bool) {
    let keys = || (2..5).flat_map(|ifindex| (1..5).map(move |host| at(ifindex, host)));
    for key in keys() {
        if let Some(hop) = rig.kernel.hop(&key) {
            assert_eq!(Some(*hop), truth.hop(&key), "seed {seed}: {key:?}");
        }
    }
    let wanted = keys().filter(|key| truth.hop(key).is_some()).count();
    let found = keys().filter(|key| rig.kernel.hop(key).is_some()).count();
    if at_rest {
        assert_eq!(found, wanted.min(max_hops as usize - 1), "seed {seed}: as many as there is room for");
    }
    assert_eq!(rig.table.counts().hops as usize, found, "seed {seed}");
    assert_eq!(rig.table.counts().left_out as usize, wanted - found, "seed {seed}");
    let all: Vec<u32> = rig.kernel.index.values().copied().collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}
