//! What every test stands on: a namespace with `eth0` (clients) and `eth1` (endpoints), a pin directory, an
//! image with a TCP and a UDP service, and the maps as the kernel has them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aya::Pod;
use aya::maps::{HashMap, MapData};
use lockstep_loader::{Dataplane, DataplaneConfig};
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
pub(crate) const FLOATING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A namespace, and a pin directory that is removed at the end.
pub(crate) struct Bed {
    pub(crate) pin_dir: PathBuf,
    pub(crate) max_flows: u32,
}

impl Bed {
    /// Moves the calling thread (a test's own) into a new namespace.
    pub(crate) fn new(max_flows: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET).expect("tests of the kernel run as root");
        for (name, peer, address) in
            [("eth0", "client0", "192.0.2.2/24"), ("eth1", "endpoint0", "10.0.0.2/24")]
        {
            ip(&format!("link add {name} type veth peer name {peer}"));
            ip(&format!("address add {address} dev {name}"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set {peer} up"));
        }
        ip("neighbour add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth1");
        ip("neighbour add 10.0.0.12 lladdr 02:00:00:00:00:12 dev eth1");
        ip("neighbour add 10.0.0.13 lladdr 02:00:00:00:00:13 dev eth1");
        let unique = format!("lockstep-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { pin_dir: Path::new("/sys/fs/bpf").join(unique), max_flows }
    }

    pub(crate) fn config(&self) -> DataplaneConfig {
        DataplaneConfig {
            interfaces: vec!["eth0".into(), "eth1".into()],
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

    /// A pinned map, as any other program would see it.
    pub(crate) fn map(&self, name: &str) -> MapData {
        MapData::from_pin(self.pin_dir.join("v2/maps").join(name)).unwrap()
    }

    pub(crate) fn hash<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        HashMap::try_from(aya::maps::Map::HashMap(self.map(name))).unwrap()
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

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn image() -> Image {
    let address = |address: Ipv4Addr, vip| AddressImage {
        address: IpAddr::V4(address),
        vip,
        floating: !vip,
        snat: false,
        port_blocks: 0,
        static_host: None,
        after: None,
    };
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

pub(crate) fn endpoint(host: u8) -> EndpointImage {
    EndpointImage {
        id: EndpointId(100 + u64::from(host)),
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), 8080),
        weight: 100,
        state: EndpointState::Active,
        backup: false,
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

pub(crate) fn upsert(record: FlowRecord, epoch: u64) -> FlowOp {
    FlowOp { change: FlowChange::Upsert(record), epoch: Epoch(epoch), mark: 1, only_if_absent: false }
}

pub(crate) fn remove(record: &FlowRecord, version: FlowVersion, epoch: u64) -> FlowOp {
    FlowOp {
        change: FlowChange::Remove { key: record.key, group: record.group, version },
        epoch: Epoch(epoch),
        mark: 1,
        only_if_absent: false,
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
