//! The dataplane under test, set up as a sole voter's daemon would: opened, an image applied, an unbounded lease,
//! events drained, flows swept. Everything here goes through the loader's public interface.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use lockstep_loader::{
    Dataplane, DataplaneConfig, HopOptions, HopStopper, InterfaceConfig, KernelInstant, LeaseUntil,
};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, Revision, ServiceId};
use lockstep_model::image::{AddressImage, EndpointImage, Frontend, GroupImage, Image, ServiceImage};
use lockstep_model::intent::{
    Algorithm, EndpointState, Limits, Mode, OnMiss, PortRange, SyncPolicy, Timeouts,
};
use lockstep_model::protocol::Protocol;

use crate::processor;
use crate::socket::readable;

const GROUP: GroupId = GroupId(10);
const EPOCH: Epoch = Epoch(40);
/// As the node: a reader that found events looks again after so long.
const GATHER: Duration = Duration::from_micros(300);
/// Events of a turn beyond which the next one begins twice as late.
const BUSY: usize = 16;
/// How long a reader that sleeps waits for an event before it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(10);
/// How long the thread that keeps next hops waits for news.
const HOPS: Duration = Duration::from_secs(10);
/// As the node: a step of so many entries, so often.
const SWEEP: Duration = Duration::from_millis(50);
const SWEEP_BUDGET: usize = 4096;

/// Where the programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Xdp,
    Tc,
}

/// Of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Hook {
    pub(crate) const ALL: [Hook; 2] = [Hook::Xdp, Hook::Tc];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Hook::Xdp => "xdp",
            Hook::Tc => "tc",
        }
    }
}

impl Family {
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }
}

/// A service: one VIP, one endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) protocol: Protocol,
    pub(crate) vip: SocketAddr,
    pub(crate) endpoint: SocketAddr,
}

/// What to serve.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) interfaces: Vec<String>,
    pub(crate) hook: Hook,
    pub(crate) max_flows: u32,
    pub(crate) floating: Vec<IpAddr>,
    pub(crate) services: Vec<Service>,
}

impl Setting {
    /// Each once.
    fn vips(&self) -> BTreeSet<IpAddr> {
        self.services.iter().map(|service| service.vip.ip()).collect()
    }

    fn image(&self) -> Image {
        let address = |address: &IpAddr, vip| AddressImage {
            address: *address,
            vip,
            floating: !vip,
            snat: false,
            port_blocks: 0,
            static_host: None,
            after: None,
        };
        let services = self.services.iter().zip(20..).map(|(service, id)| ServiceImage {
            id: ServiceId(id),
            name: format!("service-{id}"),
            revision: Revision(30),
            group: GROUP,
            frontends: vec![Frontend { vip: service.vip.ip(), ports: PortRange::single(service.vip.port()) }],
            protocols: vec![service.protocol],
            algorithm: Algorithm::Maglev,
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
            endpoints: vec![EndpointImage {
                id: EndpointId(100 + id),
                address: service.endpoint,
                weight: 100,
                state: EndpointState::Active,
                backup: false,
                down: false,
            }],
        });
        Image {
            groups: vec![GroupImage {
                id: GROUP,
                name: "bench".into(),
                epoch: EPOCH,
                owner: true,
                interfaces: vec![],
                addresses: self
                    .vips()
                    .iter()
                    .map(|vip| address(vip, true))
                    .chain(self.floating.iter().map(|floating| address(floating, false)))
                    .collect(),
            }],
            services: services.collect(),
            snat_rules: vec![],
        }
    }

    /// Loads, attaches, configures, and opens the lease. The calling thread is in the balancer's namespace.
    pub(crate) fn open(&self, pin_dir: &Path) -> anyhow::Result<Dataplane> {
        let hook = match self.hook {
            Hook::Xdp => lockstep_loader::Hook::Xdp,
            Hook::Tc => lockstep_loader::Hook::Tc,
        };
        let interface = |name: &String| InterfaceConfig { name: name.clone(), hook };
        let mut dataplane = Dataplane::open(DataplaneConfig {
            interfaces: self.interfaces.iter().map(interface).collect(),
            pin_dir: pin_dir.to_owned(),
            max_flows: self.max_flows,
        })
        .context("the dataplane cannot be opened")?;
        let report = dataplane.apply(&self.image(), |_| true).context("the image cannot be applied")?;
        let refused: Vec<&String> =
            report.warnings.iter().chain(report.unfit.iter().map(|(_, why)| why)).collect();
        ensure!(refused.is_empty(), "the dataplane does not do what the benchmark asks for: {refused:?}");
        dataplane
            .lease_writer()
            .set(GROUP, EPOCH, LeaseUntil::Unbounded)
            .context("the lease cannot be opened")?;
        Ok(dataplane)
    }
}

/// What the daemon does beside the programs, on threads of its own; ends when dropped.
pub(crate) struct Daemon {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    hops: HopStopper,
    /// Events taken from the ring.
    pub(crate) drained: Arc<AtomicU64>,
}

impl Daemon {
    /// Begins to keep next hops, to drain events and, if `sweep`, to age flows; on one processor, if told so. The
    /// calling thread is in the balancer's namespace.
    pub(crate) fn start(dataplane: &Dataplane, sweep: bool, cpu: Option<usize>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let drained = Arc::new(AtomicU64::new(0));
        let on_xdp = dataplane.hooks().iter().filter(|report| report.hook == lockstep_loader::Hook::Xdp);
        let xdp = on_xdp.map(|report| report.interface.clone()).collect();
        let mut watcher = dataplane
            .hop_watcher(HopOptions { xdp, ..HopOptions::default() })
            .context("the next hops cannot be read")?;
        let mut daemon = Daemon { stop, threads: Vec::new(), hops: watcher.stopper(), drained };
        let stop = Arc::clone(&daemon.stop);
        daemon.spawn("hops", move || {
            while !stop.load(Ordering::Relaxed) {
                watcher.step(HOPS).context("the next hops cannot be kept")?;
            }
            watcher.close().context("the next hops cannot be given up")
        })?;
        let mut events = dataplane.events().context("the events cannot be read")?;
        let (stop, count) = (Arc::clone(&daemon.stop), Arc::clone(&daemon.drained));
        daemon.spawn("events", move || {
            cpu.map_or(Ok(()), processor::stay_on)?;
            while !stop.load(Ordering::Relaxed) {
                let n = events.drain(usize::MAX, |change, _, _| {
                    std::hint::black_box(change);
                });
                count.fetch_add(n as u64, Ordering::Release);
                if n > 0 {
                    std::thread::sleep(if n > BUSY { 2 * GATHER } else { GATHER });
                } else if !events.sleep().context("the events cannot be waited for")? {
                    readable(events.as_raw_fd(), TICK)?;
                }
            }
            Ok(())
        })?;
        if sweep {
            let mut sweeper = dataplane.sweeper();
            let stop = Arc::clone(&daemon.stop);
            daemon.spawn("sweeper", move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(SWEEP);
                    sweeper.step(KernelInstant::now(), SWEEP_BUDGET).context("flows cannot be swept")?;
                }
                Ok(())
            })?;
        }
        Ok(daemon)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.with_context(|| format!("cannot start the thread {name}"))?);
        Ok(())
    }

    /// Ends it and says what went wrong, if anything.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.hops.stop().context("the thread that keeps next hops cannot be told to stop")?;
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // `stop` has told of a failure already, and otherwise the thread ends with the next news.
        let _told = self.hops.stop();
    }
}
