//! What every test stands on: a namespace with `eth0` (clients) and `eth1` (endpoints), a pin directory, an
//! image with a TCP and a UDP service, and the maps as the kernel has them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Pod;
use aya::maps::{HashMap, MapData};
use lockstep_loader::{Dataplane, DataplaneConfig, Hook, InterfaceConfig};
use lockstep_model::flow::{FlowChange, FlowKey, FlowKind, FlowOp, FlowRecord, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, Revision, ServiceId};
use lockstep_model::image::{AddressImage, EndpointImage, Frontend, GroupImage, Image, ServiceImage};
use lockstep_model::intent::{
    Algorithm, EndpointState, Limits, Mode, OnMiss, PortRange, SyncPolicy, Timeouts,
};
use lockstep_model::protocol::Protocol;
use nix::sched::{CloneFlags, unshare};

pub(crate) const GROUP: GroupId = GroupId(10);
pub(crate) const TCP_SERVICE: ServiceId = ServiceId(20);
pub(crate) const UDP_SERVICE: ServiceId = ServiceId(21);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(crate) const FLOATING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Programs are loaded and freed by one test at a time, however many threads there are: kernels have hung over
/// thousands at once.
static ALONE: Mutex<()> = Mutex::new(());

/// A namespace, and a pin directory that is removed at the end.
pub(crate) struct Bed {
    pub(crate) pin_dir: PathBuf,
    pub(crate) max_flows: u32,
    alone: Option<MutexGuard<'static, ()>>,
}

impl Bed {
    /// Waits until no other test has one, and moves the calling thread (a test's own) into a new namespace.
    pub(crate) fn new(max_flows: u32) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bed = Self::another(max_flows);
        bed.alone = Some(alone);
        bed
    }

    /// A second one of the same test.
    pub(crate) fn another(max_flows: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET).expect("tests of the kernel run as root");
        for (name, peer, addresses) in [
            ("eth0", "client0", ["192.0.2.2/24", "2001:db8::2/64"]),
            ("eth1", "endpoint0", ["10.0.0.2/24", "fd00::2/64"]),
        ] {
            ip(&format!("link add {name} type veth peer name {peer}"));
            ip(&format!("address add {} dev {name}", addresses[0]));
            ip(&format!("address add {} dev {name} nodad", addresses[1]));
            ip(&format!("link set {name} up"));
            ip(&format!("link set {peer} up"));
        }
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth1");
        ip("neighbour add 10.0.0.12 lladdr 02:00:00:00:00:12 dev eth1");
        ip("neighbour add 10.0.0.13 lladdr 02:00:00:00:00:13 dev eth1");
        let unique = format!("lockstep-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { pin_dir: Path::new("/sys/fs/bpf").join(unique), max_flows, alone: None }
    }

    pub(crate) fn config(&self) -> DataplaneConfig {
        DataplaneConfig {
            interfaces: ["eth0", "eth1"].map(interface).into(),
            pin_dir: self.pin_dir.clone(),
            max_flows: self.max_flows,
        }
    }

    pub(crate) fn open(&self) -> Dataplane {
        Dataplane::open(self.config()).unwrap()
    }

    /// Opened, with the image applied.
    pub(crate) fn serving(&self) -> Dataplane {
        let mut dataplane = self.open();
        let report = dataplane.apply(&image(), |_| true).unwrap();
        assert_eq!(report.unfit, vec![]);
        dataplane
    }

    /// Where this version pins.
    pub(crate) fn schema(&self) -> PathBuf {
        self.pin_dir.join(format!("v{}", lockstep_abi::SCHEMA))
    }

    /// A pinned map, as any other program would see it.
    pub(crate) fn map(&self, name: &str) -> MapData {
        MapData::from_pin(self.schema().join("maps").join(name)).unwrap()
    }

    pub(crate) fn hash<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        HashMap::try_from(aya::maps::Map::HashMap(self.map(name))).unwrap()
    }

    pub(crate) fn entries_of<K: Pod, V: Pod>(&self, name: &str) -> Vec<(K, V)> {
        self.hash::<K, V>(name).iter().map(Result::unwrap).collect()
    }

    pub(crate) fn entries<K: Pod + Ord, V: Pod>(&self, name: &str) -> BTreeMap<K, V> {
        self.hash::<K, V>(name).iter().map(Result::unwrap).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = lockstep_loader::remove(&self.pin_dir) {
            eprintln!("{} is left behind: {error}", self.pin_dir.display());
        }
    }
}

pub(crate) fn interface(name: &str) -> InterfaceConfig {
    InterfaceConfig { name: name.into(), hook: Hook::Auto }
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn image() -> Image {
    let address = |ip: Ipv4Addr, vip| AddressImage { vip, floating: !vip, ..address(IpAddr::V4(ip)) };
    let service = |id, name: &str, port, protocol, algorithm| ServiceImage {
        id,
        name: name.into(),
        revision: Revision(30),
        group: GROUP,
        frontends: vec![Frontend { vip: IpAddr::V4(VIP), ports: PortRange::single(port) }],
        protocols: vec![protocol],
        algorithm,
        mode: Mode::Nat,
        sync: SyncPolicy::Immediate,
        on_miss: OnMiss::Drop,
        affinity: None,
        timeouts: Timeouts::default(),
        sources: vec![],
        limits: Limits::default(),
        slow_start: None,
        all_down: Default::default(),
        snat: vec![],
        endpoints: (11..=13).map(endpoint).collect(),
    };
    Image {
        groups: vec![GroupImage {
            id: GROUP,
            name: "edge".into(),
            epoch: Epoch(40),
            owner: true,
            interfaces: vec![],
            addresses: vec![address(VIP, true), address(FLOATING, false)],
        }],
        services: vec![
            service(TCP_SERVICE, "web", 80, Protocol::Tcp, Algorithm::RoundRobin),
            service(UDP_SERVICE, "dns", 53, Protocol::Udp, Algorithm::Maglev),
        ],
        snat_rules: vec![],
    }
}

pub(crate) fn address(address: IpAddr) -> AddressImage {
    AddressImage {
        address,
        vip: false,
        floating: false,
        snat: false,
        port_blocks: 0,
        static_host: None,
        after: None,
    }
}

/// The same, with the TCP service over IPv6 as well.
pub(crate) fn image_of_both() -> Image {
    let mut image = image();
    image.groups[0].addresses.push(AddressImage { vip: true, ..address(IpAddr::V6(VIP6)) });
    image.services[0].frontends.push(Frontend { vip: IpAddr::V6(VIP6), ports: PortRange::single(80) });
    image.services[0].endpoints.extend((11..=13).map(endpoint6));
    image
}

pub(crate) fn endpoint6(host: u8) -> EndpointImage {
    EndpointImage {
        id: EndpointId(600 + u64::from(host)),
        address: SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host))), 8080),
        ..endpoint(host)
    }
}

pub(crate) fn endpoint(host: u8) -> EndpointImage {
    EndpointImage {
        id: EndpointId(100 + u64::from(host)),
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), 8080),
        weight: 100,
        state: EndpointState::Active,
        backup: false,
        down: false,
    }
}

/// A TCP flow of client number `client`.
pub(crate) fn record(client: u32, version: FlowVersion) -> FlowRecord {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + client / 1000);
    let host = 11 + (client % 3) as u8;
    FlowRecord {
        key: FlowKey {
            client: SocketAddr::new(IpAddr::V4(address), 10_000 + (client % 1000) as u16),
            service: SocketAddr::new(IpAddr::V4(VIP), 80),
            protocol: Protocol::Tcp,
        },
        group: GROUP,
        service: TCP_SERVICE,
        endpoint: endpoint(host).id,
        endpoint_address: endpoint(host).address,
        source: None,
        kind: FlowKind::Nat,
        version,
        state: FlowState::Established,
        state_bits: lockstep_abi::state::ESTABLISHED | lockstep_abi::state::SEEN,
        remaining: Duration::from_secs(3500),
    }
}

/// The same over IPv6.
pub(crate) fn record6(client: u32, version: FlowVersion) -> FlowRecord {
    let v4 = record(client, version);
    let host = 11 + (client % 3) as u8;
    let address = Ipv6Addr::from(
        u128::from(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0)) + u128::from(client / 1000),
    );
    FlowRecord {
        key: FlowKey {
            client: SocketAddr::new(IpAddr::V6(address), v4.key.client.port()),
            service: SocketAddr::new(IpAddr::V6(VIP6), 80),
            protocol: Protocol::Tcp,
        },
        endpoint: endpoint6(host).id,
        endpoint_address: endpoint6(host).address,
        ..v4
    }
}

pub(crate) fn upsert(record: FlowRecord, epoch: u64) -> FlowOp {
    FlowOp {
        change: FlowChange::Upsert(record),
        epoch: Epoch(epoch),
        mark: 1,
        only_if_absent: false,
        repair: false,
    }
}

pub(crate) fn remove(record: &FlowRecord, version: FlowVersion, epoch: u64) -> FlowOp {
    FlowOp {
        change: FlowChange::Remove { key: record.key, group: record.group, version },
        epoch: Epoch(epoch),
        mark: 1,
        only_if_absent: false,
        repair: false,
    }
}

pub(crate) fn version(birth: u64, n: u64) -> FlowVersion {
    FlowVersion { birth, n }
}

/// Tries until `attempt` gives something.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(std::time::Instant::now() < deadline, "in 20 s there was no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
