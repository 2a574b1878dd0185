//! A namespace with `eth0` (its other end is `peer0`), a watcher, and the maps that it writes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lockstep_abi::hop::{HopKey, HopValue, USABLE};
use lockstep_loader::{Adopted, DataplaneError, HopOptions, HopReport, HopSink, HopWatcher, Write};
use nix::sched::{CloneFlags, unshare};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The maps.
#[derive(Default)]
pub(crate) struct Maps {
    pub(crate) hops: BTreeMap<u32, HopValue>,
    pub(crate) index: BTreeMap<HopKey, u32>,
    pub(crate) stamp: u32,
    pub(crate) by_destination: bool,
    pub(crate) writes: Vec<Write>,
    /// How many writes from now on fail.
    pub(crate) failures: u32,
}

impl Maps {
    /// The usable hop of an address.
    pub(crate) fn hop(&self, ifindex: u32, address: &str) -> Option<HopValue> {
        let index = self.index.get(&key(ifindex, address))?;
        self.hops.get(index).copied().filter(|hop| hop.flags & USABLE != 0)
    }
}

/// A handle that outlives the watcher, as pins outlive the daemon.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Maps>>);

impl Sink {
    pub(crate) fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap()
    }
}

impl HopSink for Sink {
    fn read(&self) -> Result<Adopted, DataplaneError> {
        let maps = self.maps();
        let entry = |(key, index): (&HopKey, &u32)| (*key, *index, maps.hops[index]);
        Ok(Adopted { stamp: maps.stamp, entries: maps.index.iter().map(entry).collect() })
    }

    fn write(&mut self, write: Write) -> Result<(), DataplaneError> {
        let mut maps = self.maps();
        if maps.failures > 0 {
            maps.failures -= 1;
            let source = std::io::Error::other("refused by the test");
            return Err(DataplaneError::Map { map: "HOPS", source });
        }
        maps.writes.push(write);
        match write {
            Write::SetHop { index, value } => drop(maps.hops.insert(index, value)),
            Write::SetIndex { key, index } => drop(maps.index.insert(key, index)),
            Write::RemoveIndex { key } => drop(maps.index.remove(&key)),
            Write::RaiseStamp { stamp } => maps.stamp = stamp,
            Write::ByDestination(value) => maps.by_destination = value,
            Write::WaitGrace => {}
        }
        Ok(())
    }
}

pub(crate) struct Bed {
    pub(crate) sink: Sink,
    pub(crate) watcher: HopWatcher<Sink>,
    pub(crate) eth0: u32,
}

impl Bed {
    /// Moves the calling thread (a test's own) into a new namespace. Nothing there speaks by itself.
    pub(crate) fn new() -> Self {
        Self::with(HopOptions::default(), || {})
    }

    /// `before` runs when `eth0` is up and nobody watches yet.
    pub(crate) fn with(options: HopOptions, before: impl FnOnce()) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests of the kernel run as root");
        sysctl("ipv6/conf/default/disable_ipv6", "1");
        ip("link add eth0 type veth peer name peer0");
        ip("address add 10.0.0.1/24 dev eth0");
        ip("link set peer0 up");
        ip("link set eth0 up");
        before();
        let sink = Sink::default();
        let watcher = HopWatcher::open(sink.clone(), options).unwrap();
        let mut bed = Self { sink, watcher, eth0: index("eth0") };
        bed.calm();
        bed
    }

    /// Steps until `condition` holds.
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Maps, &HopReport) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut report = HopReport::default();
        while !condition(&self.sink.maps(), &report) {
            assert!(
                Instant::now() < deadline,
                "{what}: not within {DEADLINE:?}; {:?}",
                self.sink.maps().writes
            );
            report = self.watcher.step(Duration::from_millis(50)).unwrap();
        }
    }

    /// Steps until nothing was written for half a second: what the kernel had to say has been said. Then forgets
    /// what was written.
    pub(crate) fn calm(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < Duration::from_millis(500) {
            assert!(Instant::now() < deadline, "no calm within {DEADLINE:?}");
            let before = self.sink.maps().writes.len();
            self.watcher.step(Duration::from_millis(50)).unwrap();
            if self.sink.maps().writes.len() != before {
                quiet_since = Instant::now();
            }
        }
        self.sink.maps().writes.clear();
    }

    /// Changes the namespace, and steps until the stamp is raised.
    pub(crate) fn raises(&mut self, arguments: &str) {
        let stamp = self.sink.maps().stamp;
        ip(arguments);
        self.until(&format!("a new stamp after ip {arguments}"), |maps, _| maps.stamp != stamp);
        self.calm();
    }

    pub(crate) fn hop(&self, address: &str) -> Option<HopValue> {
        self.sink.maps().hop(self.eth0, address)
    }

    pub(crate) fn until_mac(&mut self, address: &str, mac: [u8; 6]) {
        let eth0 = self.eth0;
        self.until(&format!("{address} at {mac:x?}"), |maps, _| {
            maps.hop(eth0, address).is_some_and(|hop| hop.destination_mac == mac)
        });
    }

    pub(crate) fn until_unusable(&mut self, address: &str) {
        let eth0 = self.eth0;
        self.until(&format!("{address} is no hop"), |maps, _| maps.hop(eth0, address).is_none());
    }

    pub(crate) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.sink.maps().writes)
    }
}

pub(crate) fn key(ifindex: u32, address: &str) -> HopKey {
    let mut words = [0; 4];
    let (family, octets) = match address.parse().unwrap() {
        IpAddr::V4(address) => (4, address.octets().to_vec()),
        IpAddr::V6(address) => (6, address.octets().to_vec()),
    };
    for (word, four) in words.iter_mut().zip(octets.chunks(4)) {
        *word = u32::from_ne_bytes(four.try_into().unwrap());
    }
    HopKey { ifindex, family, address: words }
}

pub(crate) fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

pub(crate) fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

pub(crate) fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Many commands of `ip` at once.
pub(crate) fn ip_batch(commands: impl IntoIterator<Item = String>) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for command in commands {
        writeln!(input, "{command}").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}
