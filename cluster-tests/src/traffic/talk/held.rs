//! Conversations that go on while something else happens, and must notice nothing of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Datagrams, Hello, Talk, any_port};
use crate::namespace::Handle;
use crate::wait;
use crate::workers::Workers;

const BYTES: usize = 200;
const PAUSE: Duration = Duration::from_millis(5);
const ROUNDS_LIMIT: Duration = Duration::from_secs(8);

/// What runs.
#[derive(Debug, Default)]
pub struct Flows {
    /// Whether a lost datagram is sent again: where packets may be lost, but no flow.
    pub patient: bool,
    /// TCP, with what each is.
    pub tcp: Vec<(String, Talk)>,
    /// UDP, with what each is, and who answered first.
    pub udp: Vec<(String, Datagrams, Hello)>,
}

impl Flows {
    /// Opens one of each from `from` to `to`.
    pub fn open(
        &mut self,
        name: &str,
        namespace: &Handle,
        from: IpAddr,
        to: SocketAddr,
    ) -> anyhow::Result<()> {
        let talk = Talk::connect(namespace, any_port(from), to).with_context(|| name.to_owned())?;
        let mut datagrams = Datagrams::open(namespace, any_port(from), to)?;
        let hello = datagrams.exchange(BYTES).with_context(|| format!("{name}, UDP"))?;
        self.tcp.push((name.to_owned(), talk));
        self.udp.push((name.to_owned(), datagrams, hello));
        Ok(())
    }

    /// One exchange of each.
    pub fn round(&mut self) -> anyhow::Result<()> {
        for (name, talk) in &mut self.tcp {
            talk.exchange(BYTES).with_context(|| format!("{name}, from {}", talk.local))?;
        }
        for (name, datagrams, first) in &mut self.udp {
            let now =
                if self.patient { datagrams.exchange_patiently(BYTES) } else { datagrams.exchange(BYTES) };
            let now = now.with_context(|| format!("{name}, UDP"))?;
            ensure!(now == *first, "{name}: UDP from {} was {first:?} and is {now:?}", datagrams.local);
        }
        Ok(())
    }
}

/// Flows that a thread keeps talking; stopped when dropped.
#[derive(Debug)]
pub struct Held {
    rounds: Arc<AtomicU64>,
    workers: Workers<Flows>,
}

impl Held {
    /// Begins.
    pub fn start(mut flows: Flows) -> anyhow::Result<Self> {
        let rounds = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&rounds);
        let mut workers = Workers::new("held flows");
        workers.spawn("held-flows", move |stop| {
            while !stop.requested() {
                flows.round()?;
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            Ok(flows)
        })?;
        Ok(Held { rounds, workers })
    }

    /// Waits until every flow has talked `more` times more.
    pub fn rounds(&self, more: u64) -> anyhow::Result<()> {
        let from = self.rounds.load(Ordering::Relaxed);
        wait::until("held flows to go on", ROUNDS_LIMIT, || {
            let ended = self.workers.any_ended();
            // The round under way may have begun before this was called.
            Ok((ended || self.rounds.load(Ordering::Relaxed) > from + more).then_some(()))
        })
    }

    /// Stops and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<Flows> {
        self.workers.stop()?.pop().context("the held flows' thread was not started")
    }
}
