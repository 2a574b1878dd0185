//! keepalived between the same namespaces: VRRP moves the addresses, the kernel forwards, nftables translates.
//!
//! Tuned for speed: VRRP version 3, real-time priority, no pre-emption, priorities so close to 255 that the skew of the
//! election is nothing, gratuitous ARP without delay. Nothing there keeps two masters apart, and connections are
//! not replicated: only the silence is compared.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use lockstep_cluster_tests::clock::{self, nanos};
use lockstep_cluster_tests::fault::{PortSwitch, cut_power};
use lockstep_cluster_tests::manifest::Profile;
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::run::Run;
use lockstep_cluster_tests::topology::{CLIENTS, ENDPOINTS, FLOATING, Node, Side, Topology, VIP};
use lockstep_cluster_tests::traffic::endpoint::UDP_PORT;
use lockstep_cluster_tests::traffic::load::Endpoints;
use lockstep_cluster_tests::traffic::probe::Probe;
use lockstep_cluster_tests::trial::DNS;
use lockstep_cluster_tests::{interrupt, ip, wait};

use super::tally::Tally;
use lockstep_cluster_tests::nft;

/// How long a node may take to come up, or the other to take over, at the slowest interval.
const LIMIT: Duration = Duration::from_secs(20);
/// See [`super::bed`].
const ANSWERS_BEFORE: u64 = 200;
const ANSWERS_AFTER: u64 = 100;

/// How often the master says that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Advert {
    /// keepalived's default.
    Second,
    Tenth,
    /// The shortest that VRRP can say.
    Hundredth,
}

impl Advert {
    pub(crate) const ALL: [Advert; 3] = [Advert::Second, Advert::Tenth, Advert::Hundredth];

    /// The one whose detection takes about as long as the profile's lease.
    pub(crate) const fn beside(profile: Profile) -> Advert {
        match profile {
            Profile::Fast => Advert::Hundredth,
            Profile::Lan => Advert::Tenth,
            Profile::Wan => Advert::Second,
        }
    }

    const fn seconds(self) -> &'static str {
        match self {
            Advert::Second => "1",
            Advert::Tenth => "0.1",
            Advert::Hundredth => "0.01",
        }
    }

    const fn interval(self) -> Duration {
        match self {
            Advert::Second => Duration::from_secs(1),
            Advert::Tenth => Duration::from_millis(100),
            Advert::Hundredth => Duration::from_millis(10),
        }
    }

    /// The name of a row.
    pub(crate) fn row(self, what: &str) -> String {
        format!("keepalived-{}s/power/{what}", self.seconds())
    }
}

/// `runs` power cuts of the master, in turns.
pub(crate) fn measure(advert: Advert, runs: usize) -> anyhow::Result<Tally> {
    let mut pair = Pair::start(advert)?;
    let endpoints = Endpoints::start(&pair.topology)?;
    endpoints.hurry()?;
    let probe = Probe::start(&pair.topology.clients, CLIENTS[0], DNS)?;
    let ports = PortSwitch::open(&pair.topology)?;
    let mut tally = Tally::default();
    let mut master = Node::A;
    for run in 1..=runs {
        interrupt::check()?;
        probe.answered(ANSWERS_BEFORE, LIMIT)?;
        // At any point between two advertisements.
        wait::pass(Duration::from_nanos(clock::now() % nanos(advert.interval())))?;
        let at = clock::now();
        cut_power(pair.process(master)?, &ports, master)?;
        let over = probe.answered(ANSWERS_AFTER, LIMIT)?;
        let (gap_ms, lost) = (probe.silence_ms(at, over), probe.lost(at, over)?);
        tally.add_gap(gap_ms, lost);
        println!("{} {run} of {runs}: silent {gap_ms:.1} ms, {lost} lost", advert.row("gap"));
        pair.bring_back(master)?;
        probe.forget_before(over);
        master = master.other();
    }
    probe.stop()?;
    endpoints.stop()?;
    Ok(tally)
}

/// Two balancers run by keepalived.
struct Pair {
    // Dropped in this order: processes, then the network, then files.
    processes: [Option<Process>; 2],
    topology: Topology,
    run: Run,
    advert: Advert,
    starts: usize,
}

impl Pair {
    /// Both running, the first of them master.
    fn start(advert: Advert) -> anyhow::Result<Self> {
        let run = Run::begin()?;
        let topology = Topology::create(&run, &Node::ALL)?;
        let rules = format!(
            "table ip balance {{\nchain in {{\ntype nat hook prerouting priority dstnat;\n\
             ip daddr {VIP} udp dport {} dnat to {}:{UDP_PORT}\n}}\n}}\n",
            DNS.port(),
            ENDPOINTS[0]
        );
        for node in Node::DATAPLANE {
            let namespace = topology.node(node);
            namespace.sysctl(&[("net/ipv4/ip_forward", "1")])?;
            nft::load(namespace, &rules)?;
        }
        let mut pair = Pair { processes: [None, None], topology, run, advert, starts: 0 };
        pair.start_node(Node::A, "MASTER STATE")?;
        pair.start_node(Node::B, "BACKUP STATE")?;
        Ok(pair)
    }

    fn process(&self, node: Node) -> anyhow::Result<&Process> {
        self.processes[node as usize].as_ref().with_context(|| format!("{} was not started", node.name()))
    }

    /// Starts it and waits until it says that it is in this state.
    fn start_node(&mut self, node: Node, state: &str) -> anyhow::Result<()> {
        self.starts += 1;
        let folder = self.run.folder();
        // Others for each start: what an earlier one said, or left behind, is not taken for this one's.
        let file = |kind: &str| folder.join(format!("keepalived-{}-{}.{kind}", node.name(), self.starts));
        let log = file("log");
        let configuration = file("conf");
        std::fs::write(&configuration, self.configuration(node))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let mut command = Command::new("keepalived");
        let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        command
            .args(["--vrrp", "--dont-fork", "--log-console", "--no-syslog"])
            .arg(option("--use-file", configuration))
            .arg(option("--pid", file("pid")))
            .arg(option("--vrrp_pid", file("vrrp.pid")));
        let mut process = Process::start(
            &format!("keepalived {}", node.name()),
            command,
            Some(self.topology.node(node)),
            &log,
        )?;
        let what = format!("keepalived of {} to enter {state}", node.name());
        let entered = wait::until(&what, LIMIT, || {
            let running = process.running()?;
            let said = process.tail(usize::MAX).contains(state);
            anyhow::ensure!(said || running, "it {}: {}", process.describe_end(), process.tail(10));
            Ok(said.then_some(()))
        });
        entered.with_context(|| process.tail(10))?;
        self.processes[node as usize] = Some(process);
        Ok(())
    }

    /// Power returns: without the addresses that a killed keepalived left.
    fn bring_back(&mut self, node: Node) -> anyhow::Result<()> {
        drop(self.processes[node as usize].take());
        let lines = [(VIP, "eth0"), (FLOATING, "eth1")]
            .map(|(address, interface)| format!("address flush dev {interface} to {address}/32"));
        ip::batch(self.topology.node(node).name(), &lines)?;
        for side in Side::ALL {
            self.topology.set_port(&side.port(node), true)?;
        }
        self.start_node(node, "BACKUP STATE")
    }

    fn configuration(&self, node: Node) -> String {
        let priority = if node == Node::A { 254 } else { 253 };
        let advert = self.advert.seconds();
        let name = node.name();
        format!(
            "global_defs {{\n router_id {name}\n vrrp_version 3\n vrrp_rt_priority 40\n vrrp_garp_master_delay 0\n \
             vrrp_garp_master_repeat 3\n}}\n\
             vrrp_instance balancer {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n \
             priority {priority}\n advert_int {advert}\n track_interface {{\n eth1\n }}\n \
             virtual_ipaddress {{\n {VIP}/24 dev eth0\n {FLOATING}/24 dev eth1\n }}\n}}\n"
        )
    }
}
