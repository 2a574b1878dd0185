//! One UDP flow that asks every millisecond for as long as it lives, and can be asked meanwhile what it heard: for
//! silences of a few milliseconds, and many faults one after the other.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::reactor::Reactor;
use super::udp::{LENGTH, Message};
use super::udp_client::is_network_error;
use crate::clock::{self, Nanos, between_ms, nanos};
use crate::namespace::Handle;
use crate::stats::{Percentiles, longest_gap};
use crate::wait;
use crate::workers::{Stop, Workers};

/// How often it asks.
pub const INTERVAL: Duration = Duration::from_millis(1);
/// How long an answer may take before its datagram counts as lost.
const ANSWER: Duration = Duration::from_millis(100);
const KEY: u64 = 1;

/// The probe, running; stopped when dropped.
#[derive(Debug)]
pub struct Probe {
    workers: Workers<()>,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// When each datagram since `first` was sent, and when it was answered.
    asked: Vec<(Nanos, Option<Nanos>)>,
    first: u64,
    heard: Vec<Nanos>,
    /// Answers that were not as predicted.
    bad: u64,
}

impl Probe {
    /// Begins to ask `service` from `source`, with real-time priority: what it notices is the network's silence, not
    /// its own.
    pub fn start(namespace: &Handle, source: Ipv4Addr, service: SocketAddrV4) -> anyhow::Result<Self> {
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        let mut workers = Workers::new("probe");
        workers.spawn_in(namespace, "probe", move |stop| {
            let socket = UdpSocket::bind((source, 0)).with_context(|| format!("cannot bind {source}"))?;
            socket.set_nonblocking(true)?;
            socket.connect(service).with_context(|| format!("cannot reach {service}"))?;
            run(&socket, &shared, stop)
        })?;
        workers.hurry()?;
        Ok(Probe { workers, log })
    }

    /// Waits until `answers` come that were asked for after this call, and says when the last of them came.
    pub fn answered(&self, answers: u64, limit: Duration) -> anyhow::Result<Nanos> {
        let from = clock::now();
        wait::until(&format!("{answers} answers to the probe"), limit, || {
            ensure!(!self.workers.any_ended(), "the probe ended");
            let log = lock(&self.log);
            let since = log.asked.partition_point(|(at, _)| *at < from);
            let count = log.asked[since..].iter().filter(|(_, answered)| answered.is_some()).count() as u64;
            Ok((count >= answers).then(|| log.heard.last().copied()).flatten())
        })
    }

    /// The longest silence within `[from, to]`, ms.
    pub fn silence_ms(&self, from: Nanos, to: Nanos) -> f64 {
        between_ms(0, longest_gap(&lock(&self.log).heard, from, to))
    }

    /// How many datagrams that were sent within `[from, to]` were never answered. Waits for the last answers.
    pub fn lost(&self, from: Nanos, to: Nanos) -> anyhow::Result<u64> {
        wait::pass(Duration::from_nanos((to + nanos(ANSWER)).saturating_sub(clock::now())))?;
        let log = lock(&self.log);
        Ok(log.asked.iter().filter(|(at, answered)| (from..=to).contains(at) && answered.is_none()).count()
            as u64)
    }

    /// How long the answers took to datagrams that were sent within `[from, to]`, ms.
    pub fn delays(&self, from: Nanos, to: Nanos) -> Percentiles {
        let log = lock(&self.log);
        let asked = log.asked.iter().filter(|(at, _)| (from..=to).contains(at));
        Percentiles::of(asked.filter_map(|(at, answered)| Some((*answered)?.saturating_sub(*at))).collect())
    }

    /// Forgets what was before `at`, so that a long run needs no more memory than a short one.
    pub fn forget_before(&self, at: Nanos) {
        let mut log = lock(&self.log);
        let gone = log.asked.partition_point(|(sent, _)| *sent < at);
        log.asked.drain(..gone);
        log.first += gone as u64;
        let gone = log.heard.partition_point(|heard| *heard < at);
        log.heard.drain(..gone);
    }

    /// Ends it; an answer that was not as predicted is an error.
    pub fn stop(self) -> anyhow::Result<()> {
        self.workers.stop()?;
        let bad = lock(&self.log).bad;
        ensure!(bad == 0, "the probe had {bad} answers with wrong bytes");
        Ok(())
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(socket: &UdpSocket, log: &Mutex<Log>, stop: &Stop) -> anyhow::Result<()> {
    let reactor = Reactor::new(INTERVAL)?;
    reactor.watch_input(socket, 0)?;
    let mut due = clock::now();
    while !stop.requested() {
        reactor.turn()?;
        hear(socket, log)?;
        let now = clock::now();
        if now >= due {
            ask(socket, log, now);
            // No bursts after a delay: what comes late shows as a silence.
            due = (due + nanos(INTERVAL)).max(now);
        }
    }
    Ok(())
}

fn ask(socket: &UdpSocket, log: &Mutex<Log>, now: Nanos) {
    let number = {
        let mut log = lock(log);
        log.asked.push((now, None));
        log.first + log.asked.len() as u64 - 1
    };
    // A full send buffer or no route loses the datagram, as networks do.
    drop(socket.send(&Message::Request { key: KEY, number }.encode()));
}

fn hear(socket: &UdpSocket, log: &Mutex<Log>) -> anyhow::Result<()> {
    let mut bytes = [0; LENGTH + 1];
    loop {
        let length = match socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_network_error(error.kind()) => continue,
            Err(error) => return Err(error).context("the probe cannot receive"),
        };
        let now = clock::now();
        let mut log = lock(log);
        match Message::decode(&bytes[..length]) {
            Some(Message::Reply { key: KEY, number, .. }) => {
                let first = log.first;
                // Answers to what is forgotten already mean nothing.
                let asked = number.checked_sub(first).and_then(|index| log.asked.get_mut(index as usize));
                if let Some((_, answered)) = asked {
                    *answered = Some(now);
                    log.heard.push(now);
                }
            }
            _ => log.bad += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(log: Log) -> Probe {
        Probe { workers: Workers::new("none"), log: Arc::new(Mutex::new(log)) }
    }

    #[test]
    fn silence_and_loss_are_of_the_interval_and_survive_forgetting() {
        const MS: u64 = 1_000_000;
        let answer = |i: u64| (!(40..47).contains(&i)).then_some(i * MS + 1 + i * MS / 100);
        let asked = (0..100).map(|i| (i * MS, answer(i))).collect();
        let heard = (0..100).filter(|i| !(40..47).contains(i)).map(|i| i * MS + 1).collect();
        let probe = probe(Log { asked, heard, ..Log::default() });
        assert_eq!(probe.lost(0, 99 * MS).unwrap(), 7);
        assert_eq!(probe.lost(43 * MS, 99 * MS).unwrap(), 4);
        assert_eq!(probe.silence_ms(30 * MS, 60 * MS), 8.0);
        let delays = probe.delays(20 * MS, 50 * MS);
        assert!((delays.max - 0.5).abs() < 1e-3 && (0.3..0.4).contains(&delays.p50), "{delays:?}");
        probe.forget_before(45 * MS);
        assert_eq!(probe.lost(0, 99 * MS).unwrap(), 2);
        assert_eq!(lock(&probe.log).first, 45);
    }
}
