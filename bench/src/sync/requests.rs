//! What replication costs the owner's clients: a connection for each request, through a cluster whose two balancers, clients
//! and endpoints share all processors, with `sync: immediate` and with `sync: none` in turn.

use std::net::SocketAddrV4;
use std::time::Duration;

use lockstep_cluster_tests::cluster::Cluster;
use lockstep_cluster_tests::cluster::files::with_room;
use lockstep_cluster_tests::interrupt;
use lockstep_cluster_tests::manifest::Profile;
use lockstep_cluster_tests::topology::{Node, VIP};

use super::bed::{MAX_FLOWS, WIRE, manifest};
use super::cost::{Spent, Watched};
use crate::e2e::{nginx, wrk};
use crate::report::{Better, Row};
use crate::statistics::{Sample, lower_bound};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, 443);
const ENDPOINT_PORT: u16 = 8443;

/// `pairs` of measurements of this length, the order turned round from one pair to the next.
pub(crate) fn measure(pairs: usize, length: Duration) -> anyhow::Result<Row> {
    let room = |_: Node, file: &str| with_room(file, MAX_FLOWS);
    let mut cluster = Cluster::start_configured(&policy("immediate"), Profile::Lan, room)?;
    let measured = pairs_of(&mut cluster, pairs, length).map_err(|error| cluster.explain(error));
    measured.map(|(on, off)| {
        let row = Row::new("sync/requests_per_second", "req/s", Better::Higher, &on);
        let row = row.beside("sync/requests_per_second/none", off.median()).low(lower_bound(&on, &off));
        row.note(format!("{pairs} pairs; with sync none {:.0} to {:.0}", off.min(), off.max()))
    })
}

fn pairs_of(cluster: &mut Cluster, pairs: usize, length: Duration) -> anyhow::Result<(Sample, Sample)> {
    let owner = cluster.wait_ready()?;
    let watched = Watched {
        sender: cluster.process(owner)?.pid(),
        receiver: cluster.process(owner.other())?.pid(),
        wire: cluster.topology.node(owner).handle().clone(),
        device: WIRE,
    };
    let cluster = &*cluster;
    let mut servers = Vec::new();
    for (number, endpoint) in cluster.topology.endpoints.iter().enumerate() {
        let folder = cluster.run.folder().join(format!("nginx-{number}"));
        std::fs::create_dir(&folder)?;
        servers.push(nginx::start(&folder, endpoint, ENDPOINT_PORT)?);
    }
    let one = |sync: &str| {
        interrupt::check()?;
        cluster.apply(owner, &policy(sync))?;
        cluster.wait_programmed()?;
        let before = watched.read()?;
        let measured = wrk::measure(&cluster.topology.clients, SERVICE, length, true, &cluster.run)?;
        anyhow::Ok((measured.rate, watched.since(&before)?))
    };
    // Neighbours, routes and files are known after this.
    one("immediate")?;
    let (mut on, mut off) = (Sample::default(), Sample::default());
    for pair in 0..pairs {
        let (with, without) = if pair % 2 == 0 {
            let with = one("immediate")?;
            (with, one("none")?)
        } else {
            let without = one("none")?;
            (one("immediate")?, without)
        };
        println!("requests: pair {} of {pairs}: {:.0} with sync, {:.0} without", pair + 1, with.0, without.0);
        println!("  with: {}", threads(&with));
        println!("  without: {}", threads(&without));
        on.push(with.0);
        off.push(without.0);
    }
    Ok((on, off))
}

/// Where the daemons' time went, µs for each request.
fn threads((rate, spent): &(f64, Spent)) -> String {
    spent.threads((rate * spent.time.as_secs_f64()) as u64)
}

/// Connections end, and their flows with them; by the default timeouts they would stay for half a minute.
fn policy(sync: &str) -> String {
    manifest(sync).replace("established: 1h}", "established: 1h, fin: 2s}")
}
