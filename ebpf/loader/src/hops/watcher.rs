//! The table with its sockets and maps: one blocking step after another, on a thread of its own.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::event::HopEvent;
use super::netlink::{Heard, Listener, Requests, read_all};
use super::refresh::Refresh;
use super::sink::HopSink;
use super::table::{HopCounts, HopTable, LostHop};
use crate::error::DataplaneError;

/// Everything is read at most this often, however fast events are lost.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(200);
/// Datagrams of one step.
const MAX_DATAGRAMS: usize = 256;

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct HopOptions {
    /// Names of the interfaces with an XDP program of ours: only to these may an XDP program redirect.
    pub xdp: BTreeSet<String>,
    /// Bytes of the netlink socket's receive buffer. 8 MiB hold about ten thousand events.
    pub receive_buffer: usize,
    /// How often the kernel is told that a hop is in use.
    pub refresh_every: Duration,
}

impl Default for HopOptions {
    fn default() -> Self {
        Self { xdp: BTreeSet::new(), receive_buffer: 8 << 20, refresh_every: Duration::from_secs(15) }
    }
}

/// What the watcher counts, besides the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HopStats {
    /// The table.
    pub table: HopCounts,
    /// How often everything was read, the first time included.
    pub rereads: u64,
    /// Neighbours the kernel was told to be in use.
    pub refreshes: u64,
    /// Refreshes that the kernel refused.
    pub refresh_failures: u64,
}

/// A full read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reread {
    /// Why.
    pub reason: &'static str,
    /// Links there are.
    pub links: usize,
    /// Neighbours there are, in whatever state.
    pub neighbours: usize,
}

/// What a step did.
#[derive(Debug, Clone, Default)]
pub struct HopReport {
    /// Everything was read.
    pub reread: Option<Reread>,
    /// Hops that became unusable; of many only the first are named.
    pub lost: Vec<LostHop>,
    /// All of them.
    pub lost_count: u64,
    /// Why the kernel refused the last of the refreshes that it refused.
    pub refresh_error: Option<String>,
    /// The totals.
    pub stats: HopStats,
}

/// Ends a step that waits, from another thread.
#[derive(Debug, Clone)]
pub struct HopStopper(Arc<EventFd>);

impl HopStopper {
    fn new() -> nix::Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(|event| Self(Arc::new(event)))
    }

    /// The step that runs, and each after it, does not wait.
    pub fn stop(&self) -> io::Result<()> {
        self.0.write(1).map(drop).map_err(io::Error::from)
    }

    /// Whether it was called.
    pub fn is_stopped(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }
}

/// Keeps the table.
pub struct HopWatcher<S> {
    options: HopOptions,
    sink: S,
    table: HopTable,
    refresh: Refresh,
    requests: Requests,
    /// `None`: events were lost, and everything is to be read.
    listener: Option<Listener>,
    reason: &'static str,
    next_read: Instant,
    stop: HopStopper,
    stats: HopStats,
    lost_before: u64,
}

impl<S: HopSink> HopWatcher<S> {
    /// Reads everything and writes it to `sink`; goes on from what is there. In the namespace of the calling thread,
    /// and so must each step be.
    pub fn open(sink: S, options: HopOptions) -> Result<Self, DataplaneError> {
        let now = Instant::now();
        let stop = HopStopper::new().map_err(|errno| netlink("a wake-up")(errno.into()))?;
        let mut watcher = Self {
            table: HopTable::new(options.xdp.clone(), sink.read()?),
            refresh: Refresh::new(now, options.refresh_every, RandomState::new().build_hasher().finish()),
            requests: Requests::open().map_err(netlink("a socket"))?,
            listener: None,
            reason: "start",
            next_read: now,
            stop,
            stats: HopStats::default(),
            lost_before: 0,
            options,
            sink,
        };
        watcher.read()?;
        watcher.table.settle(now);
        watcher.flush()?;
        Ok(watcher)
    }

    /// What ends a step.
    pub fn stopper(&self) -> HopStopper {
        self.stop.clone()
    }

    /// The totals.
    pub fn stats(&self) -> HopStats {
        HopStats { table: self.table.counts(), ..self.stats }
    }

    /// Waits up to `timeout` for something to do, and does it. After an error the next step goes on where this one
    /// failed; what could not be read is not believed meanwhile.
    pub fn step(&mut self, timeout: Duration) -> Result<HopReport, DataplaneError> {
        let mut report = HopReport::default();
        // What an earlier step could not write comes before anything new.
        self.flush()?;
        self.wait(Instant::now() + timeout)?;
        self.hear()?;
        let now = Instant::now();
        if self.listener.is_none() && now >= self.next_read {
            report.reread = Some(self.read()?);
        }
        self.table.settle(now);
        self.flush()?;
        self.refresh(now, &mut report);
        report.lost = self.table.take_lost();
        report.stats = self.stats();
        report.lost_count = report.stats.table.lost - self.lost_before;
        self.lost_before = report.stats.table.lost;
        Ok(report)
    }

    /// Makes all hops unusable: the programs go on without the table, which nobody keeps from now on.
    pub fn close(mut self) -> Result<(), DataplaneError> {
        self.table.blind();
        self.flush()
    }

    fn wait(&self, until: Instant) -> Result<(), DataplaneError> {
        let mut until = until.min(self.refresh.next_deadline());
        until = self.table.next_deadline().map_or(until, |deadline| until.min(deadline));
        if self.listener.is_none() {
            until = until.min(self.next_read);
        }
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: a deadline is not awaited by looking at the clock all the time.
        let left = (left + Duration::from_micros(999)).as_millis();
        let left = PollTimeout::try_from(left.min(60_000)).expect("a minute fits");
        let mut fds = vec![PollFd::new(self.stop.0.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.listener.as_ref().map(|listener| PollFd::new(listener.fd(), PollFlags::POLLIN)));
        match poll(&mut fds, left) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(netlink("waiting")(errno.into())),
        }
    }

    fn hear(&mut self) -> Result<(), DataplaneError> {
        let Some(listener) = &mut self.listener else { return Ok(()) };
        for _ in 0..MAX_DATAGRAMS {
            match listener.hear() {
                Ok(Heard::Nothing) => return Ok(()),
                Ok(Heard::Events(events)) => {
                    // Whether it was the last of its kind only a list of them tells.
                    let again = self.table.rules_ask_more() && events.contains(&HopEvent::RuleGone);
                    events.into_iter().for_each(|event| self.table.handle(event));
                    if again {
                        self.listener = None;
                        self.reason = "a routing rule is gone";
                        return Ok(());
                    }
                }
                Ok(Heard::Lost(reason)) => {
                    self.listener = None;
                    self.reason = reason;
                    return Ok(());
                }
                Err(error) => {
                    self.listener = None;
                    self.reason = "the socket failed";
                    return Err(netlink("events")(error));
                }
            }
        }
        Ok(())
    }

    /// Listens anew, then reads: a change is in what is read, or is heard afterwards. (An older one that is heard
    /// afterwards undoes what was read, until the newer one that follows it.)
    fn read(&mut self) -> Result<Reread, DataplaneError> {
        self.next_read = Instant::now() + MIN_READ_INTERVAL;
        let read =
            Listener::open(self.options.receive_buffer).and_then(|listener| Ok((listener, read_all()?)));
        let (listener, snapshot) = match read {
            Ok(read) => read,
            Err(error) => {
                self.table.blind();
                self.flush()?;
                return Err(netlink("links and neighbours")(error));
            }
        };
        let (links, neighbours) = (snapshot.links.len(), snapshot.neighbours.len());
        self.table.replace(snapshot);
        self.listener = Some(listener);
        self.stats.rereads += 1;
        Ok(Reread { reason: self.reason, links, neighbours })
    }

    fn flush(&mut self) -> Result<(), DataplaneError> {
        while let Some(write) = self.table.next_write() {
            self.sink.write(write)?;
            self.table.written();
        }
        Ok(())
    }

    fn refresh(&mut self, now: Instant, report: &mut HopReport) {
        let table = &self.table;
        for key in self.refresh.due(now, || table.refreshable().collect()) {
            // It may have become somebody else's to keep since the cycle began.
            if !table.wants_refresh(key) {
                continue;
            }
            self.stats.refreshes += 1;
            if let Err(error) = self.requests.use_neighbour(key) {
                self.stats.refresh_failures += 1;
                report.refresh_error = Some(error.to_string());
            }
        }
    }
}

fn netlink(what: &'static str) -> impl FnOnce(io::Error) -> DataplaneError {
    move |source| DataplaneError::Netlink { what, source }
}
