//! This node's dataplane as the rest of the daemon uses it: opened once, then shared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use lockstep_loader::{
    Answer, AnswerTable, Counters, Dataplane, DataplaneConfig, FlowTable, Hook, HookReport, HopOptions,
    InterfaceConfig, LeaseWriter,
};
use lockstep_ownership::message::Tenure;
use tokio::sync::watch;

use crate::announce::{self, Announcement, Announcer, SCHEDULE};
use crate::config::{self, Config};
use crate::hops::Hops;
use crate::links::Down;
use crate::ports;
use crate::reconcile::Programmed;

/// Handles to the open dataplane.
pub(crate) struct Handle {
    /// The loader, for whoever changes configuration maps; one at a time.
    pub(crate) loader: Arc<Mutex<Dataplane>>,
    /// The flows.
    pub(crate) flows: FlowTable,
    /// The thread that keeps the next hops.
    pub(crate) hops: Hops,
    /// What was proposed of port blocks.
    pub(crate) port_counts: ports::Counts,
    /// What was asked for.
    pub(crate) config: config::Dataplane,
    /// Whether the maps, and so the flows, are those of an earlier run.
    pub(crate) adopted: bool,
    hooks: Vec<HookReport>,
    answers: AnswerTable,
    packets: Counters,
    leases: LeaseWriter,
    programmed: watch::Receiver<Programmed>,
    down: watch::Receiver<Down>,
    announcer: Announcer,
    announced: AtomicU64,
    announce_failures: AtomicU64,
}

fn loader_config(config: &config::Dataplane) -> DataplaneConfig {
    DataplaneConfig {
        interfaces: config.interfaces.iter().map(interface_config).collect(),
        pin_dir: config.pin_dir.clone(),
        max_flows: config.max_flows,
    }
}

pub(crate) fn interface_config(interface: &config::Interface) -> InterfaceConfig {
    let hook = match interface.hook {
        config::Hook::Auto => Hook::Auto,
        config::Hook::Xdp => Hook::Xdp,
        config::Hook::XdpGeneric => Hook::XdpGeneric,
        config::Hook::Tc => Hook::Tc,
    };
    InterfaceConfig { name: interface.name.clone(), hook }
}

/// XDP in a driver can send only through drivers that have a program as well; the stack's can through any.
fn hop_options(hooks: &[HookReport]) -> HopOptions {
    let native = hooks.iter().any(|report| report.hook == Hook::Xdp);
    let through = if native { Hook::Xdp } else { Hook::XdpGeneric };
    let with_xdp = hooks.iter().filter(|report| report.hook == through);
    HopOptions { xdp: with_xdp.map(|report| report.interface.clone()).collect(), ..HopOptions::default() }
}

/// Refuses what [`open`] would refuse before it touches anything.
pub(crate) fn check(config: &config::Dataplane) -> Result<()> {
    lockstep_loader::check(&loader_config(config)).context("the dataplane cannot be opened")
}

/// Loads or adopts the dataplane that `config` describes.
pub(crate) fn open(config: &config::Dataplane) -> Result<Dataplane> {
    let dataplane = Dataplane::open(loader_config(config)).context("the dataplane cannot be opened")?;
    for HookReport { interface, hook, why } in dataplane.hooks() {
        tracing::info!(interface, %hook, why, "attached");
    }
    Ok(dataplane)
}

/// Takes this node's dataplane out of the kernel.
pub(crate) fn purge(config: &Config) -> Result<()> {
    let dataplane =
        config.dataplane.as_ref().context("[dataplane]: missing; a witness has nothing to purge")?;
    lockstep_loader::remove(&dataplane.pin_dir).context("the dataplane cannot be removed")
}

/// See [`Handle::news`].
pub(crate) struct News {
    programmed: watch::Receiver<Programmed>,
    down: watch::Receiver<Down>,
}

impl News {
    /// Something changed since the last call. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        let ended = tokio::select! {
            changed = self.programmed.changed() => changed.is_err(),
            changed = self.down.changed() => changed.is_err(),
        };
        if ended {
            // One of the watchers has ended and says nothing any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Handle {
    pub(crate) fn new(
        config: config::Dataplane,
        loader: Dataplane,
        programmed: watch::Receiver<Programmed>,
        down: watch::Receiver<Down>,
    ) -> Result<Self> {
        Ok(Self {
            flows: loader.flows(),
            hops: Hops::start(
                loader.hop_watcher(hop_options(loader.hooks())).context("the next hops cannot be read")?,
            )
            .context("the thread that keeps the next hops cannot be started")?,
            port_counts: ports::Counts::default(),
            adopted: loader.adopted(),
            hooks: loader.hooks().to_vec(),
            answers: loader.answers(),
            packets: loader.counter_table(),
            leases: loader.lease_writer(),
            loader: Arc::new(Mutex::new(loader)),
            config,
            programmed,
            down,
            announcer: Announcer::open().context("a packet socket for announcements cannot be opened")?,
            announced: AtomicU64::new(0),
            announce_failures: AtomicU64::new(0),
        })
    }

    /// The hook that an interface has, and why.
    pub(crate) fn hook(&self, interface: &str) -> Option<&HookReport> {
        self.hooks.iter().find(|report| report.interface == interface)
    }

    /// What the reconciler did last.
    pub(crate) fn programmed(&self) -> Programmed {
        self.programmed.borrow().clone()
    }

    /// Wakes when what the reconciler did changes.
    pub(crate) fn watch_programmed(&self) -> watch::Receiver<Programmed> {
        self.programmed.clone()
    }

    /// Wakes when a carrier changes.
    pub(crate) fn watch_down(&self) -> watch::Receiver<Down> {
        self.down.clone()
    }

    /// Interfaces without carrier.
    pub(crate) fn down(&self) -> Down {
        self.down.borrow().clone()
    }

    /// Wakes when carrier or programmed intent change.
    pub(crate) fn news(&self) -> News {
        News { programmed: self.programmed.clone(), down: self.down.clone() }
    }

    /// Whether the kernel makes no new flows; those that exist go on.
    pub(crate) fn refuse_new_flows(&self, refuse: bool) {
        self.leases.refuse_new_flows(refuse);
    }

    /// Packets by reason. Empty, and logged, when the kernel cannot be read.
    pub(crate) fn packet_counters(&self) -> Vec<(String, u64)> {
        match self.packets.read() {
            Ok(counters) => counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            Err(error) => {
                tracing::error!(%error, "the packet counters cannot be read");
                Vec::new()
            }
        }
    }

    /// One of [`Self::packet_counters`].
    pub(crate) fn packet_counter(&self, name: &str) -> u64 {
        let counters = self.packet_counters();
        counters.into_iter().find(|(counter, _)| counter == name).map_or(0, |(_, value)| value)
    }

    /// Announcements sent and failed.
    pub(crate) fn announce_counters(&self) -> Vec<(String, u64)> {
        vec![
            ("sent".to_owned(), self.announced.load(Ordering::Relaxed)),
            ("failed".to_owned(), self.announce_failures.load(Ordering::Relaxed)),
        ]
    }

    /// Announces the addresses of the tenure's group once, for as long as the kernel has its lease; whether anything was
    /// sent.
    pub(crate) fn announce(&self, tenure: Tenure) -> bool {
        let answers = match self.answers.of(tenure.group) {
            Ok(answers) => answers,
            Err(error) => {
                tracing::error!(%error, group = %tenure.group, "addresses to announce cannot be read");
                self.announce_failures.fetch_add(1, Ordering::Relaxed);
                return false;
            }
        };
        let mut sent = false;
        for answer in announce::while_held(answers, || self.holds(tenure)) {
            match self.send(&answer) {
                Ok(()) => sent = true,
                Err(errno) => {
                    let Answer { address, ifindex: interface, .. } = answer;
                    tracing::warn!(%errno, %address, interface, "an announcement was not sent");
                }
            }
        }
        sent
    }

    /// Repeats the announcement on schedule for as long as the lease is ours. The first one was sent by whoever opened
    /// it.
    pub(crate) async fn announce_again(&self, tenure: Tenure) {
        let start = tokio::time::Instant::now();
        for after in &SCHEDULE[1..] {
            tokio::time::sleep_until(start + *after).await;
            if !self.holds(tenure) {
                return;
            }
            self.announce(tenure);
        }
    }

    /// Announces one address again, if the kernel still answers for it under the tenure's lease. What fails is counted.
    pub(crate) fn refresh(&self, tenure: Tenure, answer: &Answer) {
        match self.answers.has(tenure.group, answer) {
            Ok(true) if self.holds(tenure) => drop(self.send(answer)),
            Ok(_) => {}
            Err(error) => {
                self.announce_failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, group = %tenure.group, "addresses to announce cannot be read");
            }
        }
    }

    /// Whether the kernel forwards under this lease now: what the lease thread says of it is as old as its last turn.
    fn holds(&self, tenure: Tenure) -> bool {
        self.leases.is_held(tenure.group, tenure.epoch)
    }

    fn send(&self, answer: &Answer) -> nix::Result<()> {
        let Answer { ifindex: interface, mac, address } = *answer;
        let sent = self.announcer.send(&Announcement { interface, mac, address });
        let counter = if sent.is_ok() { &self.announced } else { &self.announce_failures };
        counter.fetch_add(1, Ordering::Relaxed);
        sent
    }
}
