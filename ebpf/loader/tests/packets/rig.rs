//! A balancer in a namespace of its own: two interfaces, the programs, and one group with a VIP and a
//! floating address.

mod flows;
mod links;
mod send;
mod service;

use std::net::IpAddr;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use lockstep_abi::address::{
    AddressValue, AnswerKey, AnswerValue, ENDPOINTS, FLOATING, InterfaceValue, MacValue, TRANSIT_GROUPS,
    TransitValue, VIP,
};
use lockstep_abi::hop::{HopKey, HopValue, USABLE, XDP};
use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

use crate::case::{Case, Family, Side, wide};
use crate::pool::{self, Loaded, Size};
use crate::table::Table;

pub(crate) use flows::{Event, Flow, FlowKey, key, narrow_key};
pub(crate) use links::{forward, ip};
pub(crate) use send::{Action, Sent};
pub(crate) use service::{Service, VERSION, endpoint_of, reference, target};

/// The demo group's id, its lease slot, and its epoch.
pub(crate) const GROUP: u64 = 77;
pub(crate) const SLOT: u32 = 5;
pub(crate) const EPOCH: u64 = 1042;
/// The demo service's id, and its slot.
pub(crate) const SERVICE: u64 = 900;
pub(crate) const SERVICE_SLOT: u32 = 7;
/// Indexes of the group's addresses.
pub(crate) const VIP_INDEX: u32 = 11;
pub(crate) const FLOATING_INDEX: u32 = 12;
/// The block of ports that the floating address has: 40960 to 41983.
pub(crate) const BLOCK: u32 = 40;
/// An address's stamp is this and its index.
pub(crate) const FIRST_STAMP: u32 = 300;
/// The stamp of next hops.
pub(crate) const HOP_STAMP: u32 = 1;
pub(crate) const MTU: u32 = 1500;

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Runs `test` at both hooks with both families, each time with a balancer in a fresh namespace.
pub(crate) fn for_each(test: impl FnMut(&mut Rig) + Send) {
    for_cases(&crate::case::ALL, test);
}

/// The same in some cases only.
pub(crate) fn for_cases(cases: &[Case], test: impl FnMut(&mut Rig) + Send) {
    for_cases_of(Size::ORDINARY, cases, test);
}

/// The same with maps of these sizes. Each on a thread of its own, with which the namespace ends, and whose name says in
/// a panic's message which case it is.
pub(crate) fn for_cases_of(size: Size, cases: &[Case], mut test: impl FnMut(&mut Rig) + Send) {
    for case in cases {
        std::thread::scope(|scope| {
            let run = || test(&mut Rig::new(*case, size));
            let thread = std::thread::Builder::new().name(format!("{:?} {:?}", case.hook, case.family));
            let thread = thread.spawn_scoped(scope, run).unwrap();
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

pub(crate) struct Rig {
    pub(crate) case: Case,
    /// What addresses there are.
    pub(crate) net: Family,
    pub(crate) client_side: u32,
    pub(crate) endpoint_side: u32,
    /// Whether packets at tc come from a device that sums them.
    pub(crate) summed: bool,
    loaded: Option<Loaded>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let loaded = self.loaded.take().expect("there until now");
        pool::give_back(loaded);
    }
}

impl Rig {
    fn new(case: Case, size: Size) -> Self {
        let loaded = pool::take(size);
        // First of all something whose end gives the instance back.
        let mut rig = Self {
            case,
            net: case.family,
            client_side: 0,
            endpoint_side: 0,
            summed: false,
            loaded: Some(loaded),
        };
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        links::set_up();
        let index = |side: Side| nix::net::if_::if_nametoindex(&*format!("{}0", side.link())).unwrap();
        (rig.client_side, rig.endpoint_side) = (index(Side::Clients), index(Side::Endpoints));
        rig.discard_events();
        rig.configure();
        rig.hold_lease();
        rig.publish(&Service::default());
        rig
    }

    pub(crate) fn loaded(&self) -> &Loaded {
        self.loaded.as_ref().expect("given back at the end")
    }

    pub(crate) fn loaded_mut(&mut self) -> &mut Loaded {
        self.loaded.as_mut().expect("given back at the end")
    }

    pub(crate) fn table<'a, K: Pod, V: Pod>(&'a self, name: &'a str) -> Table<'a, K, V> {
        self.loaded().tables.table(name)
    }

    pub(crate) fn ifindex(&self, side: Side) -> u32 {
        match side {
            Side::Clients => self.client_side,
            Side::Endpoints => self.endpoint_side,
        }
    }

    fn configure(&self) {
        self.address(VIP_INDEX, self.net.vip(), VIP, 0);
        self.address(FLOATING_INDEX, self.net.floating(), FLOATING, 1 << BLOCK);
        for (index, side) in [(VIP_INDEX, Side::Clients), (FLOATING_INDEX, Side::Endpoints)] {
            let address = if index == VIP_INDEX { self.net.vip() } else { self.net.floating() };
            let ifindex = self.ifindex(side);
            let key = AnswerKey { ifindex, family: self.net.number(), address: wide(address) };
            let value = AnswerValue { address_index: index, address_stamp: FIRST_STAMP + index };
            self.table(map::ANSWERS).put(&key, &value);
            let mac = side.own_mac();
            self.table(map::INTERFACES).put(&ifindex, &InterfaceValue { mac, pad: [0; 2] });
            let value = MacValue { ifindex, mac, pad: [0; 2] };
            self.table(map::MACS).put(&(ifindex % map::MAX_MACS), &value);
        }
        let network = self.net.host(Side::Endpoints, 0);
        self.transit(network, self.net.network_bits(), &[SLOT]);
        self.table(map::HOP_STAMP).put(&0u32, &HOP_STAMP);
        self.configure_hops();
    }

    /// Makes every host's MAC known.
    pub(crate) fn configure_hops(&self) {
        for (position, (side, host)) in (1u32..).zip(self.net.hosts()) {
            let ifindex = self.ifindex(side);
            let hop = HopValue {
                ifindex,
                mtu: MTU,
                destination_mac: side.mac(host),
                source_mac: side.own_mac(),
                flags: USABLE | XDP,
                pad: 0,
            };
            self.table(map::HOPS).put(&position, &hop);
            let key = self.hop_key(self.net.host(side, host));
            self.table(map::HOP_INDEX).put(&key, &position);
        }
    }

    /// The next hop's index of a host.
    pub(crate) fn hop_index(&self, host: IpAddr) -> u32 {
        self.table(map::HOP_INDEX).get(&self.hop_key(host)).expect("a host with a known MAC")
    }

    fn hop_key(&self, host: IpAddr) -> HopKey {
        let hosts = self.net.hosts();
        let (side, _) = hosts.iter().find(|(side, last)| self.net.host(*side, *last) == host).unwrap();
        HopKey { ifindex: self.ifindex(*side), family: self.net.number(), address: wide(host) }
    }

    /// Makes a host's MAC unknown.
    pub(crate) fn forget_hop(&self, host: IpAddr) {
        self.table::<HopKey, u32>(map::HOP_INDEX).remove(&self.hop_key(host));
    }

    /// Changes the next hop of a host.
    pub(crate) fn change_hop(&self, host: IpAddr, change: impl FnOnce(&mut HopValue)) {
        self.table::<u32, HopValue>(map::HOPS).change(&self.hop_index(host), change);
    }

    /// Gives an address to the group.
    pub(crate) fn address(&self, index: u32, address: IpAddr, flags: u32, port_blocks: u64) {
        let value = AddressValue {
            stamp: FIRST_STAMP + index,
            lease_slot: SLOT,
            flags,
            family: self.net.number(),
            address: wide(address),
            group: GROUP,
            port_blocks,
            static_host: [0; 4],
        };
        self.table(map::ADDRESSES).put(&index, &value);
        match self.net {
            Family::V4 => self.table(map::ADDRESS_INDEX4).put(&wide(address)[0], &index),
            Family::V6 => self.table(map::ADDRESS_INDEX6).put(&wide(address), &index),
        }
    }

    pub(crate) fn change_address(&self, index: u32, change: impl FnOnce(&mut AddressValue)) {
        self.table::<u32, AddressValue>(map::ADDRESSES).change(&index, change);
    }

    /// Makes a network endpoint-side, of the groups with these lease slots.
    pub(crate) fn transit(&self, network: IpAddr, bits: u32, groups: &[u32]) {
        let mut slots = [0; TRANSIT_GROUPS];
        slots[..groups.len()].copy_from_slice(groups);
        let value = TransitValue { count: groups.len() as u32, flags: ENDPOINTS, slots };
        self.put_prefix(map::TRANSIT4, map::TRANSIT6, network, bits, &value);
    }

    /// Writes what holds for a prefix into a trie of the case's family.
    pub(crate) fn put_prefix<V: Pod>(&self, v4: &str, v6: &str, network: IpAddr, bits: u32, value: &V) {
        match self.net {
            Family::V4 => self.table(v4).put(&Key::new(bits, wide(network)[0]), value),
            Family::V6 => self.table(v6).put(&Key::new(bits, wide(network)), value),
        }
    }

    pub(crate) fn lease(&self, lease: LeaseValue) {
        self.table(map::LEASES).put(&SLOT, &lease);
    }

    pub(crate) fn change_lease(&self, change: impl FnOnce(&mut LeaseValue)) {
        self.table::<u32, LeaseValue>(map::LEASES).change(&SLOT, change);
    }

    /// A lease that lasts for any test, as a sole voter has.
    pub(crate) fn hold_lease(&self) {
        // Long ago, even on a machine that started a minute ago.
        self.lease(LeaseValue { flags: UNBOUNDED, since_ns: now_ns().wrapping_sub(1 << 50), ..bounded(0) });
    }

    /// A lease that ends so many nanoseconds from now (or ended before); its end.
    pub(crate) fn lease_until(&self, from_now_ns: i64) -> u64 {
        let until_ns = now_ns().wrapping_add_signed(from_now_ns);
        self.lease(bounded(until_ns));
        until_ns
    }

    /// What the owner does while its intent is stale.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.change_lease(|lease| lease.frozen = u64::from(frozen));
    }

    pub(crate) fn drop_lease(&self) {
        self.lease(LeaseValue { group: GROUP, ..LeaseValue::default() });
    }
}

/// A lease with an end.
pub(crate) fn bounded(until_ns: u64) -> LeaseValue {
    LeaseValue { until_ns, epoch: EPOCH, group: GROUP, ..LeaseValue::default() }
}
