//! What changes in a standby's kernel behind its daemon's back is found by comparison with the owner and repaired, while
//! traffic goes on, and counted once; before that nothing is reported (I5).

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::bpf::{PinnedMap, find_pin};
use crate::cluster::Cluster;
use crate::comparisons::Comparisons;
use crate::dump;
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::trial::WEB;
use crate::wait;

const MAP: &str = "FLOWS4";
/// The kernel's key: both addresses, both ports, the protocol, three bytes of nothing.
const KEY: usize = 16;
/// The kernel's value, which begins with eight other bytes, its key, and the key of the other direction's entry.
const VALUE: usize = 128;
const TWIN: usize = 24;
/// How long a difference may live.
const FOUND: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(10);
/// Comparisons without a report before anything is planted.
const UNDISTURBED: u64 = 5;

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Lan)?;
    let owner = cluster.wait_ready()?;
    let session = Session::start(&cluster, 40)?;
    let result = plant(&cluster, owner).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn plant(cluster: &Cluster, owner: Node) -> anyhow::Result<()> {
    let standby = owner.other();
    wait::until("comparisons under traffic", FOUND, || {
        let counts = Comparisons::of(cluster, standby)?;
        ensure!(counts.diverged == 0, "{} flows are said to differ, and none does", counts.diverged);
        Ok((counts.made >= UNDISTURBED).then_some(()))
    })?;
    let map = PinnedMap::open(&find_pin(&cluster.pin_dir(standby), MAP)?)?;
    let held = wait::until("three connections on the standby", LIMIT, || held(cluster, standby))?;
    let [changed, lost, half] = held.map(|client| key(client, WEB));

    // Another endpoint for the first, nothing of the second, half of the third.
    let sound = value(&map, &changed)?.context("no entry of the first")?;
    let mut other = sound;
    other[TWIN + 3] ^= 1;
    map.write(&changed, &other)?;
    map.delete(&lost)?;
    let entry = value(&map, &half)?.context("no entry of the third")?;
    let reply = &entry[TWIN..TWIN + KEY];
    map.delete(reply)?;

    wait::until("the changed flow to be as it was", FOUND, || {
        let twin = TWIN..TWIN + KEY;
        Ok(value(&map, &changed)?.filter(|now| now[twin.clone()] == sound[twin.clone()]).map(drop))
    })?;
    wait::until("the lost flow to be there", FOUND, || Ok(value(&map, &lost)?.map(drop)))?;
    wait::until("the half flow to be whole", FOUND, || Ok(value(&map, reply)?.map(drop)))?;
    wait::until_ok("the same flows on owner and standby", LIMIT, || {
        dump::demand_same(cluster, owner, owner.other())
    })?;
    let diverged = Comparisons::of(cluster, standby)?.diverged;
    ensure!(diverged == 3, "three flows differed, and {diverged} were counted");
    Ok(())
}

/// Where the oldest three connections come from: those stay.
fn held(cluster: &Cluster, node: Node) -> anyhow::Result<Option<[SocketAddrV4; 3]>> {
    let table = dump::table(cluster, node)?;
    let established = table.iter().filter(|(_, entry)| entry.state == "established");
    let mut found: Vec<(u64, SocketAddrV4)> =
        established.filter_map(|(key, entry)| Some((entry.birth, key.tcp_client()?))).collect();
    found.sort_unstable();
    Ok(found.first_chunk().map(|three: &[_; 3]| three.map(|(_, client)| client)))
}

fn key(client: SocketAddrV4, service: SocketAddrV4) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..4].copy_from_slice(&client.ip().octets());
    key[4..8].copy_from_slice(&service.ip().octets());
    key[8..10].copy_from_slice(&client.port().to_be_bytes());
    key[10..12].copy_from_slice(&service.port().to_be_bytes());
    key[12] = libc::IPPROTO_TCP as u8;
    key
}

fn value(map: &PinnedMap, key: &[u8]) -> anyhow::Result<Option<[u8; VALUE]>> {
    let mut value = [0; VALUE];
    Ok(map.read(key, &mut value)?.then_some(value))
}
