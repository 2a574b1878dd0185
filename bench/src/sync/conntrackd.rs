//! The same load through two gateways that copy their connections with conntrackd: FTFW (acknowledged, as ours is), and
//! injected into the other kernel as they come (`DisableExternalCache`).
//!
//! ```text
//!  clients ── eth0 192.0.2.2 ┐            ┌ eth1 10.0.0.2 ── 10.0.0.11 server, which takes a SYN and says nothing
//!                            └ conntrack p ┘
//!                       eth2 10.9.0.1 ──── 10.9.0.2 eth2 conntrack q
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use lockstep_cluster_tests::ip::batch;
use lockstep_cluster_tests::namespace::{Handle, Namespace};
use lockstep_cluster_tests::nft;
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::run::Run;
use lockstep_cluster_tests::wait;

use super::bed::silence;
use super::cost::{Spent, Watched};
use super::generator::Generator;
use crate::interface::interface;

const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 11), 8443);
/// For all namespaces together, settable in the first only.
const ROOM: &str = "/proc/sys/net/nf_conntrack_max";
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const CONNECTIONS: u64 = 4_000_000;
/// How long the last connection may take.
const LAST: Duration = Duration::from_secs(5);
/// See `step`: the same rule for both.
const BEHIND: f64 = 0.05;
const LOOK: Duration = Duration::from_millis(100);

/// The gateways, running.
pub(crate) struct Pair {
    // Dropped in this order.
    processes: [Process; 2],
    generator: Generator,
    nodes: [Namespace; 2],
    _others: [Namespace; 2],
    _room: Room,
    _run: Run,
}

/// What came of one rate.
pub(crate) struct Step {
    pub(crate) flows: u64,
    pub(crate) offered: f64,
    /// Connections that the other kernel never had.
    pub(crate) lost: u64,
    pub(crate) lossless: bool,
    pub(crate) spent: Spent,
}

impl Pair {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let run = Run::begin()?;
        let room = Room::make()?;
        let make = |what: &str| Namespace::create(&run.namespace(what));
        let (p, q, clients, server) = (make("p")?, make("q")?, make("clients")?, make("server")?);
        let link = |inside: &Namespace, device: &str, outside: &Namespace, far: &str, address: &str| {
            batch(
                inside.name(),
                &[
                    format!("link add {device} type veth peer name {far} netns {}", outside.name()),
                    format!("address add {address}/24 dev {device}"),
                    format!("link set {device} up"),
                ],
            )?;
            batch(outside.name(), &[format!("link set {far} up")])
        };
        link(&p, "eth0", &clients, "eth0", "192.0.2.2")?;
        link(&p, "eth1", &server, "eth0", "10.0.0.2")?;
        link(&p, "eth2", &q, "eth2", "10.9.0.1")?;
        batch(server.name(), &[format!("address add {}/24 dev eth0", SERVER.0)])?;
        batch(q.name(), &["address add 10.9.0.2/24 dev eth2".into()])?;
        for node in [&p, &q] {
            // Whoever looks at states has the kernel track connections.
            nft::load(
                node,
                "table ip track {\n chain passing { type filter hook forward priority 0;\n ct state invalid drop\n}\n}\n",
            )?;
            node.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/rp_filter", "0")])?;
        }
        silence(&server)?;
        let start = |name: &str, node: &Namespace, own: u8, other: u8| {
            let file = run.folder().join(format!("conntrackd-{name}.conf"));
            let text = configuration(&run.folder(), name, own, other);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            let mut command = Command::new("conntrackd");
            command.arg("-C").arg(&file);
            let log = run.folder().join(format!("conntrackd-{name}.log"));
            Process::start("conntrackd", command, Some(node), &log)
        };
        let processes = [start("p", &p, 1, 2)?, start("q", &q, 2, 1)?];
        let mac = p.run(|| Ok(interface("eth0")?.1))?;
        let generator = Generator::open(&clients, "eth0", mac, SERVER)?;
        let mut pair =
            Pair { processes, generator, nodes: [p, q], _others: [clients, server], _room: room, _run: run };
        pair.warm_up()?;
        Ok(pair)
    }

    fn warm_up(&mut self) -> anyhow::Result<()> {
        wait::until("the first connection at the other gateway", Duration::from_secs(10), || {
            for process in &mut self.processes {
                anyhow::ensure!(
                    process.running()?,
                    "conntrackd {}: {}",
                    process.describe_end(),
                    process.tail(20)
                );
            }
            self.generator.run(Some(100), 10, None)?;
            Ok((count(&self.nodes[1])? > 0).then_some(()))
        })?;
        wait::pass(Duration::from_secs(1))
    }

    fn watched(&self) -> Watched {
        Watched {
            sender: self.processes[0].pid(),
            receiver: self.processes[1].pid(),
            wire: self.nodes[0].handle().clone(),
            device: "eth2",
        }
    }

    /// What the daemons take with nothing to do.
    pub(crate) fn idle(&self, time: Duration) -> anyhow::Result<Spent> {
        let watched = self.watched();
        let before = watched.read()?;
        wait::pass(time)?;
        watched.since(&before)
    }

    pub(crate) fn step(&mut self, rate: u32, flows: u32) -> anyhow::Result<Step> {
        let watched = self.watched();
        let had = [count(&self.nodes[0])?, count(&self.nodes[1])?];
        let before = watched.read()?;
        let begin = Instant::now();
        let sent = self.generator.run(Some(rate), flows, None)?;
        let mut last = had[1];
        let mut arrived = Instant::now();
        // Until nothing more comes: what is lost comes never.
        while last < had[1] + sent.flows && arrived.elapsed() < LAST {
            wait::pass(Duration::from_millis(10))?;
            let now = count(&self.nodes[1])?;
            if now != last {
                (last, arrived) = (now, Instant::now());
            }
        }
        let late = (arrived - begin).saturating_sub(sent.time);
        let lost = sent.flows.saturating_sub(last - had[1]);
        let spent = watched.since(&before)?;
        let kept_up = late <= LOOK.max(sent.time.mul_f64(BEHIND));
        Ok(Step {
            flows: sent.flows,
            offered: sent.flows as f64 / sent.time.as_secs_f64(),
            lost,
            lossless: lost == 0 && kept_up,
            spent,
        })
    }
}

/// Connections that the kernel of `node` has.
fn count(node: &Handle) -> anyhow::Result<u64> {
    let text = node.run(|| fs::read_to_string(COUNT).context("cannot read the number of connections"))?;
    text.trim().parse().context("the number of connections is none")
}

fn configuration(folder: &Path, name: &str, own: u8, other: u8) -> String {
    let folder = folder.display();
    format!(
        "Sync {{\n Mode FTFW {{\n  ResendQueueSize 131072\n  ACKWindowSize 300\n  DisableExternalCache On\n }}\n\
         UDP {{\n  IPv4_address 10.9.0.{own}\n  IPv4_Destination_Address 10.9.0.{other}\n  Port 3780\n\
         Interface eth2\n  SndSocketBuffer 8388608\n  RcvSocketBuffer 8388608\n  Checksum on\n }}\n}}\n\
         General {{\n HashSize 262144\n HashLimit 4194304\n LogFile off\n Syslog off\n\
         LockFile {folder}/conntrackd-{name}.lock\n UNIX {{\n  Path {folder}/conntrackd-{name}.ctl\n }}\n\
         NetlinkBufferSize 8388608\n NetlinkBufferSizeMaxGrowth 67108864\n\
         Filter From Kernelspace {{\n  Protocol Accept {{\n   TCP\n  }}\n }}\n}}\n"
    )
}

/// Room for the connections, as long as it lives.
struct Room(String);

impl Room {
    fn make() -> anyhow::Result<Self> {
        let before = fs::read_to_string(ROOM).with_context(|| format!("cannot read {ROOM}"))?;
        fs::write(ROOM, CONNECTIONS.to_string()).with_context(|| format!("cannot write {ROOM}"))?;
        Ok(Room(before))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = fs::write(ROOM, self.0.trim()) {
            eprintln!("{ROOM} cannot be set back to {}: {error}", self.0.trim());
        }
    }
}
