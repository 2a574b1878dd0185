//! A balancer in a namespace of its own: two interfaces, the programs, and one group with a VIP and a
//! floating address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};
use lockstep_abi::address::{
    AddressValue, AnswerKey, AnswerValue, FLOATING, InterfaceValue, TRANSIT_GROUPS, TransitValue,
    VIP as IS_VIP,
};
use lockstep_abi::event::FlowEvent;
use lockstep_abi::flow::{FlowKey4, FlowValue4};
use lockstep_abi::lease::LeaseValue;
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::{Endpoint, GuardKey, GuardValue, ServiceKey, ServiceRef, ServiceVersion};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::frame::{ACK, Mac, Packet, SYN};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
pub(crate) const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 0x50];
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const NODE_ENDPOINT_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const FLOATING_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const CLIENT_SIDE_MAC: Mac = [2, 0, 0, 0, 1, 2];
pub(crate) const ENDPOINT_SIDE_MAC: Mac = [2, 0, 0, 0, 2, 2];
/// The demo group's id, its lease slot, and its epoch.
pub(crate) const GROUP: u64 = 77;
pub(crate) const SLOT: u32 = 5;
pub(crate) const EPOCH: u64 = 1042;
pub(crate) const SERVICE: u64 = 900;
pub(crate) const VERSION: u32 = 3;
const VIP_INDEX: u32 = 11;
const FLOATING_INDEX: u32 = 12;

/// tc's actions.
pub(crate) const PASS: i32 = -1;
pub(crate) const DROP: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

/// Endpoint `n` (1..) of the demo service.
pub(crate) fn endpoint(n: u8) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(10, 0, 0, 10 + n), 8080)
}

pub(crate) fn endpoint_mac(n: u8) -> Mac {
    [2, 0, 0, 0, 0, 10 + n]
}

pub(crate) fn be(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Runs `test` with a balancer in a fresh namespace. On a thread of its own, with which the namespace ends.
pub(crate) fn with_rig(test: impl FnOnce(&mut Rig) + Send) {
    with_rig_of(1024, 1 << 24, test);
}

/// The same with room for so many flow entries, and so many bytes of events.
pub(crate) fn with_rig_of(entries: u32, event_bytes: u32, test: impl FnOnce(&mut Rig) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| test(&mut Rig::new(entries, event_bytes)));
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// What became of a packet.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) action: i32,
    pub(crate) frame: Vec<u8>,
    /// Counters that moved.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
}

impl Sent {
    pub(crate) fn dropped(&self, reason: Reason) {
        assert_eq!(self.action, DROP, "{self:?}");
        assert_eq!(self.reasons.get(reason.name()), Some(&1), "{self:?}");
    }

    pub(crate) fn passed(&self, reason: Reason) {
        assert_eq!(self.action, PASS, "{self:?}");
        assert_eq!(self.reasons, BTreeMap::from([(reason.name(), 1)]), "{self:?}");
    }

    /// The packet that left, its checksums verified.
    pub(crate) fn forwarded(&self, reason: Reason) -> Packet {
        assert_eq!(self.action, REDIRECT, "{self:?}");
        assert_eq!(self.reasons.get(reason.name()), Some(&1), "{self:?}");
        Packet::parse(&self.frame)
    }
}

pub(crate) struct Rig {
    pub(crate) ebpf: Ebpf,
    pub(crate) client_side: u32,
    pub(crate) endpoint_side: u32,
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn set_up_links() {
    let mac = |m: Mac| m.map(|b| format!("{b:02x}")).join(":");
    for (name, hardware, address) in
        [("client", CLIENT_SIDE_MAC, "192.0.2.2/24"), ("endpoint", ENDPOINT_SIDE_MAC, "10.0.0.2/24")]
    {
        ip(&format!("link add {name}0 address {} type veth peer name {name}1", mac(hardware)));
        ip(&format!("link set {name}0 up"));
        ip(&format!("link set {name}1 up"));
        ip(&format!("addr add {address} dev {name}0"));
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}0/forwarding"), "1").unwrap();
    }
    ip("link set lo up");
    ip(&format!("neigh add {CLIENT} lladdr {} dev client0 nud permanent", mac(CLIENT_MAC)));
    for n in 1..=3 {
        ip(&format!(
            "neigh add {} lladdr {} dev endpoint0 nud permanent",
            endpoint(n).0,
            mac(endpoint_mac(n))
        ));
    }
}

/// Loads the programs with small maps, and fills the stages.
fn load(entries: u32, event_bytes: u32) -> Ebpf {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    let margin = 8 * tick.tv_nsec() as u64;
    let mut ebpf = EbpfLoader::new()
        .map_max_entries(map::FLOWS, entries)
        .map_max_entries(map::MAGLEV, 4 * map::MAGLEV_WORDS)
        .map_max_entries(map::ENDPOINTS, 4 * map::MAX_ENDPOINTS)
        .map_max_entries(map::GUARDS, 64)
        .map_max_entries(map::EVENTS, event_bytes)
        .override_global(map::GLOBAL_COARSE_MARGIN_NS, &margin, true)
        .load(lockstep_loader::OBJECT)
        .unwrap();
    for name in [map::PROGRAM_ENTRY, map::PROGRAM_SLOW, map::PROGRAM_LOCAL, map::PROGRAM_AGE] {
        program(&mut ebpf, name).load().unwrap();
    }
    let mut stages = ProgramArray::try_from(ebpf.take_map(map::STAGES).unwrap()).unwrap();
    for (index, name) in [(map::STAGE_SLOW, map::PROGRAM_SLOW), (map::STAGE_LOCAL, map::PROGRAM_LOCAL)] {
        let fd = program(&mut ebpf, name).fd().unwrap().try_clone().unwrap();
        stages.set(index, &fd, 0).unwrap();
    }
    // A program array whose last handle is closed forgets its programs.
    std::mem::forget(stages);
    ebpf
}

pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

/// Runs a program over a frame that came in at an interface: tc's action, and the frame afterwards.
pub(crate) fn run(program: &SchedClassifier, interface: u32, frame: &[u8]) -> (i32, Vec<u8>) {
    // The beginning of `struct __sk_buff`, up to `ifindex`.
    let mut context = [0u8; 44];
    context[40..].copy_from_slice(&interface.to_ne_bytes());
    let mut out = vec![0; frame.len() + 256];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })
        .unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value as i32, out)
}

impl Rig {
    fn new(entries: u32, event_bytes: u32) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        set_up_links();
        let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
        let mut rig = Self {
            ebpf: load(entries, event_bytes),
            client_side: index("client0"),
            endpoint_side: index("endpoint0"),
        };
        rig.configure();
        rig.hold_lease();
        rig.service(&[1, 2, 3], lockstep_abi::service::ROUND_ROBIN, lockstep_abi::service::SYNC_IMMEDIATE);
        rig
    }

    fn configure(&mut self) {
        let (client_side, endpoint_side) = (self.client_side, self.endpoint_side);
        for (index, address, flags, interface) in [
            (VIP_INDEX, VIP, IS_VIP, client_side),
            (FLOATING_INDEX, FLOATING_ADDRESS, FLOATING, endpoint_side),
        ] {
            let value =
                AddressValue { address_be: be(address), lease_slot: SLOT, flags, pad: 0, group: GROUP };
            self.array(map::ADDRESSES).set(index, value, 0).unwrap();
            self.hash(map::ADDRESS_INDEX).insert(be(address), index, 0).unwrap();
            let key = AnswerKey { ifindex: interface, address_be: be(address) };
            let value = AnswerValue { address_index: index, pad: 0 };
            self.hash(map::ANSWERS).insert(key, value, 0).unwrap();
        }
        for (interface, mac) in [(client_side, CLIENT_SIDE_MAC), (endpoint_side, ENDPOINT_SIDE_MAC)] {
            self.hash(map::INTERFACES).insert(interface, InterfaceValue { mac, pad: [0; 2] }, 0).unwrap();
        }
        let mut slots = [0; TRANSIT_GROUPS];
        slots[0] = SLOT;
        let mut transit: LpmTrie<_, u32, TransitValue> =
            self.ebpf.map_mut(map::TRANSIT).unwrap().try_into().unwrap();
        let network = be(Ipv4Addr::new(10, 0, 0, 0));
        transit.insert(&Key::new(24, network), TransitValue { count: 1, slots }, 0).unwrap();
    }

    pub(crate) fn array<V: Pod>(&mut self, name: &str) -> Array<&mut aya::maps::MapData, V> {
        self.ebpf.map_mut(name).unwrap().try_into().unwrap()
    }

    pub(crate) fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut aya::maps::MapData, K, V> {
        self.ebpf.map_mut(name).unwrap().try_into().unwrap()
    }

    /// The demo service over these endpoints, on port 80 of TCP and UDP.
    pub(crate) fn service(&mut self, endpoints: &[u8], algorithm: u32, sync: u32) {
        for (position, &n) in endpoints.iter().enumerate() {
            let (address, port) = endpoint(n);
            let value =
                Endpoint { id: 100 + u64::from(n), address_be: be(address), port_be: port.to_be(), pad: 0 };
            self.array(map::ENDPOINTS).set(VERSION * map::MAX_ENDPOINTS + position as u32, value, 0).unwrap();
        }
        for protocol in [6, 17] {
            for n in 1..=3 {
                let (address, port) = endpoint(n);
                for key in [
                    GuardKey { address_be: be(address), port_be: port.to_be(), protocol, pad: 0 },
                    GuardKey { address_be: be(address), ..GuardKey::default() },
                ] {
                    let value = GuardValue { lease_slot: SLOT, pad: 0 };
                    self.hash(map::GUARDS).insert(key, value, 0).unwrap();
                }
            }
        }
        let version = ServiceVersion {
            service: SERVICE,
            revision: 1,
            algorithm,
            endpoint_count: endpoints.len() as u32,
            sync,
            pad: 0,
        };
        self.array(map::VERSIONS).set(VERSION, version, 0).unwrap();
        for protocol in [6, 17] {
            let key = ServiceKey { vip_be: be(VIP), port_be: 80u16.to_be(), protocol, pad: 0 };
            let value = ServiceRef { version_slot: VERSION, pad: 0, service: SERVICE };
            self.hash(map::SERVICES).insert(key, value, 0).unwrap();
        }
    }

    pub(crate) fn lease(&mut self, lease: LeaseValue) {
        self.array(map::LEASES).set(SLOT, lease, 0).unwrap();
    }

    /// A lease that lasts for any test, as a sole voter has.
    pub(crate) fn hold_lease(&mut self) {
        self.lease(LeaseValue {
            until_ns: 0,
            epoch: EPOCH,
            // Long ago, even on a machine that started a minute ago.
            since_ns: now_ns().wrapping_sub(1 << 50),
            group: GROUP,
            flags: lockstep_abi::lease::UNBOUNDED,
            frozen: 0,
        });
    }

    /// A lease that ends so many nanoseconds from now (or ended before); its end.
    pub(crate) fn lease_until(&mut self, from_now_ns: i64) -> u64 {
        let until_ns = now_ns().wrapping_add_signed(from_now_ns);
        self.lease(LeaseValue { until_ns, epoch: EPOCH, since_ns: 0, group: GROUP, flags: 0, frozen: 0 });
        until_ns
    }

    /// What the owner does while its intent is stale.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        let mut leases = self.array::<LeaseValue>(map::LEASES);
        let lease = LeaseValue { frozen: u64::from(frozen), ..leases.get(&SLOT, 0).unwrap() };
        leases.set(SLOT, lease, 0).unwrap();
    }

    pub(crate) fn drop_lease(&mut self) {
        self.lease(LeaseValue { group: GROUP, ..LeaseValue::default() });
    }

    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let counters: PerCpuArray<_, u64> = self.ebpf.map(map::COUNTERS).unwrap().try_into().unwrap();
        Reason::ALL
            .iter()
            .map(|reason| (reason.name(), counters.get(&(*reason as u32), 0).unwrap().iter().sum()))
            .collect()
    }

    /// Sends a frame into an interface.
    pub(crate) fn send(&mut self, interface: u32, frame: &[u8]) -> Sent {
        let before = self.counters();
        let (action, out) = run(program(&mut self.ebpf, map::PROGRAM_ENTRY), interface, frame);
        let after = self.counters();
        let reasons =
            after.into_iter().map(|(name, n)| (name, n - before[name])).filter(|(_, n)| *n > 0).collect();
        Sent { action, frame: out, reasons }
    }

    pub(crate) fn client_sends(&mut self, packet: &Packet) -> Sent {
        self.send(self.client_side, &packet.bytes())
    }

    pub(crate) fn endpoint_sends(&mut self, packet: &Packet) -> Sent {
        self.send(self.endpoint_side, &packet.bytes())
    }

    pub(crate) fn flow(&mut self, packet: &Packet) -> Option<FlowValue4> {
        self.hash(map::FLOWS).get(&key(packet), 0).ok()
    }

    pub(crate) fn flow_entries(&mut self) -> usize {
        self.hash::<FlowKey4, FlowValue4>(map::FLOWS).keys().count()
    }

    pub(crate) fn events(&mut self) -> Vec<FlowEvent> {
        let mut ring = RingBuf::try_from(self.ebpf.map_mut(map::EVENTS).unwrap()).unwrap();
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            assert_eq!(item.len(), size_of::<FlowEvent>());
            // SAFETY: as long as a FlowEvent, of which any bytes are one.
            events.push(unsafe { item.as_ptr().cast::<FlowEvent>().read_unaligned() });
        }
        events
    }

    /// Completes a handshake; the endpoint that was chosen.
    pub(crate) fn connect(&mut self, port: u16) -> u8 {
        let out = self.client_sends(&tcp(port, SYN)).forwarded(Reason::ForwardedSlow);
        let n = out.destination.0.octets()[3] - 10;
        self.endpoint_sends(&reply(6, n, port, SYN | ACK)).forwarded(Reason::ForwardedSlow);
        self.client_sends(&tcp(port, ACK)).forwarded(Reason::ForwardedSlow);
        n
    }
}

pub(crate) fn key(packet: &Packet) -> FlowKey4 {
    FlowKey4 {
        source_be: be(packet.source.0),
        destination_be: be(packet.destination.0),
        source_port_be: packet.source.1.to_be(),
        destination_port_be: packet.destination.1.to_be(),
        protocol: packet.protocol,
        pad: [0; 3],
    }
}

/// From the client's port to the VIP's port 80.
pub(crate) fn request(protocol: u8, port: u16, flags: u8) -> Packet {
    Packet {
        to: CLIENT_SIDE_MAC,
        from: CLIENT_MAC,
        source: (CLIENT, port),
        destination: (VIP, 80),
        protocol,
        ttl: 64,
        flags,
        payload: b"question".to_vec(),
    }
}

pub(crate) fn tcp(port: u16, flags: u8) -> Packet {
    request(6, port, flags)
}

/// From endpoint `n` to the client's port.
pub(crate) fn reply(protocol: u8, n: u8, port: u16, flags: u8) -> Packet {
    Packet {
        to: ENDPOINT_SIDE_MAC,
        from: endpoint_mac(n),
        source: endpoint(n),
        destination: (CLIENT, port),
        protocol,
        ttl: 64,
        flags,
        payload: b"an answer".to_vec(),
    }
}
