//! Conversations that go on while something else happens, and must notice nothing of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use super::{Datagrams, Hello, Talk, any_port};
use crate::namespace::Handle;
use crate::wait;

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
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<Flows>>>,
}

impl Held {
    /// Begins.
    pub fn start(mut flows: Flows) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                flows.round()?;
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            Ok(flows)
        });
        Held { stop, rounds, thread: Some(thread) }
    }

    /// Waits until every flow has talked `more` times more.
    pub fn rounds(&self, more: u64) -> anyhow::Result<()> {
        let from = self.rounds.load(Ordering::Relaxed);
        wait::until("held flows to go on", ROUNDS_LIMIT, || {
            let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
            // The round under way may have begun before this was called.
            Ok((ended || self.rounds.load(Ordering::Relaxed) > from + more).then_some(()))
        })
    }

    /// Stops and says what went wrong, if anything.
    pub fn stop(mut self) -> anyhow::Result<Flows> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("the thread is taken only here and when dropped");
        thread.join().map_err(|_| anyhow!("the held flows' thread panicked"))?
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The test is being given up: nobody asks how the flows went.
            drop(thread.join());
        }
    }
}
