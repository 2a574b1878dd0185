//! Who stands between client and server.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::Context;
use clap::ValueEnum;
use lockstep_cluster_tests::ip::batch;
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::run::Run;
use lockstep_loader::Counters;
use lockstep_model::protocol::Protocol;

use super::case::Case;
use super::network::{Addresses, Network};
use super::{haproxy, nftables, server};
use crate::lockstep::{Daemon, Hook, Service, Setting};

/// The number is the balancer's place in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Subject {
    /// The kernel's own routing, no translation: the ceiling.
    Forwarding,
    /// Ours, at tc.
    Tc,
    /// DNAT and masquerade in the kernel's connection tracking.
    Nftables,
    /// A proxy in user space.
    Haproxy,
}

/// Flows that the dataplane has room for: above what the client's ports can make.
const MAX_FLOWS: u32 = 1 << 18;

/// Counters of what is not refused begin so.
const NO_REFUSALS: &[&str] = &["forwarded", "flow_created", "flow_changed", "pass", "xdp_passed"];

impl Subject {
    pub(crate) const ALL: [Subject; 4] =
        [Subject::Forwarding, Subject::Tc, Subject::Nftables, Subject::Haproxy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Subject::Forwarding => "forwarding",
            Subject::Tc => "tc",
            Subject::Nftables => "nftables",
            Subject::Haproxy => "haproxy",
        }
    }

    /// Where the client sends to.
    pub(crate) const fn target(self) -> Ipv4Addr {
        let at = Addresses::of(self);
        match self {
            Subject::Forwarding => at.server(),
            _ => at.vip(),
        }
    }

    /// HAProxy proxies no datagrams.
    pub(crate) fn does(self, case: Case) -> bool {
        !(self == Subject::Haproxy && case == Case::Udp)
    }
}

/// All balancers, running.
pub(crate) struct Balancers {
    _haproxy: Process,
    dataplane: Dataplane,
}

impl Balancers {
    pub(crate) fn start(run: &Run, network: &Network) -> anyhow::Result<Self> {
        network.balancer(Subject::Forwarding).sysctl(&[("net/ipv4/ip_forward", "1")])?;
        for subject in [Subject::Nftables, Subject::Haproxy] {
            // A VIP of theirs is an address of the machine; ours is on no interface.
            let vip = format!("address add {}/32 dev eth0", Addresses::of(subject).vip());
            batch(network.balancer(subject).name(), &[vip])?;
        }
        network.balancer(Subject::Nftables).sysctl(&[("net/ipv4/ip_forward", "1")])?;
        nftables::start(network)?;
        let haproxy = haproxy::start(run, network)?;
        let dataplane = Dataplane::start(run, network)?;
        Ok(Balancers { _haproxy: haproxy, dataplane })
    }

    /// How often the dataplane has refused a packet so far, by reason.
    pub(crate) fn refusals(&self) -> anyhow::Result<Vec<(&'static str, u64)>> {
        let Some(counters) = &self.dataplane.counters else { return Ok(Vec::new()) };
        let mut counted = counters.read().context("the dataplane's counters cannot be read")?;
        counted.retain(|(reason, _)| !NO_REFUSALS.iter().any(|prefix| reason.starts_with(prefix)));
        Ok(counted)
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.dataplane.stop()
    }
}

/// Ours: a thread that stays in the balancer's namespace, as the daemon's would.
struct Dataplane {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    stop: Option<Sender<()>>,
    /// None if it did not start.
    counters: Option<Counters>,
}

impl Dataplane {
    fn start(run: &Run, network: &Network) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let (ready, started) = channel();
        let pins = run.pins().join("tc");
        let work = move || serve(&pins, &ready, &stopped);
        let thread = network.balancer(Subject::Tc).spawn("dataplane", work)?;
        match started.recv() {
            Ok(counters) => {
                Ok(Dataplane { thread: Some(thread), stop: Some(stop), counters: Some(counters) })
            }
            Err(_) => {
                Dataplane { thread: Some(thread), stop: Some(stop), counters: None }.stop()?;
                anyhow::bail!("the dataplane's thread ended")
            }
        }
    }

    /// Ends it and says what went wrong, if anything.
    fn stop(mut self) -> anyhow::Result<()> {
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("{error:#}");
        }
    }
}

fn serve(pins: &std::path::Path, ready: &Sender<Counters>, stopped: &Receiver<()>) -> anyhow::Result<()> {
    let at = Addresses::of(Subject::Tc);
    let service = |protocol, port| Service {
        protocol,
        vip: (at.vip(), port).into(),
        endpoint: (at.server(), port).into(),
    };
    let setting = Setting {
        interfaces: vec!["eth0".into(), "eth1".into()],
        hook: Hook::Tc,
        max_flows: MAX_FLOWS,
        floating: vec![IpAddr::V4(at.floating())],
        services: vec![
            service(Protocol::Tcp, server::HTTP),
            service(Protocol::Tcp, server::STREAM),
            service(Protocol::Udp, server::DATAGRAMS),
        ],
    };
    let served = setting.open(pins).and_then(|dataplane| {
        let daemon = Daemon::start(&dataplane, true, None)?;
        // Who waits may have given up.
        let _gone = ready.send(dataplane.counter_table());
        let _stop = stopped.recv();
        daemon.stop()
    });
    let removed = lockstep_loader::remove(pins).context("the dataplane cannot be removed");
    served.and(removed)
}
