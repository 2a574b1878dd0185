//! The thread that owns both sides of the core. It waits for whatever comes first, hands it to the core, and
//! does what the core says.

mod outputs;
mod pace;
mod ring;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use lockstep_loader::KernelInstant;
use lockstep_model::flow::{FlowChange, FlowRecord};
use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId, ServiceId};
use lockstep_sync_core::audit::{Comparison, Digest, Listing, RoundId};
use lockstep_sync_core::{Connection, Down, Origin, PassId, Receiver, Replicas, StreamId, Time, Up, WorkId};
use lockstep_sync_transport::{SentBytes, StreamEvent, StreamSender};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::sleep_until;

use super::auditor::AuditJob;
use super::peer_status::{self, Rates};
use super::status::Snapshot;
use super::table::Events;
use super::walker::NextPage;
use super::writer::{Line, Written};
use crate::lease::Lendable;
use pace::Pace;

/// Kernel events taken in one turn, so that under a flood of new flows acknowledgements are heard as well.
const EVENTS_PER_TURN: usize = 2048;

/// Messages of streams and finished work taken in one turn.
const MESSAGES_PER_TURN: usize = 256;

/// Acknowledgements leave at least this far apart: an origin does not need to know of each message by itself.
const ACKNOWLEDGE: Duration = Duration::from_millis(1);

/// How often lost events are looked for. The kernel wakes nobody for those.
const TICK: Duration = Duration::from_millis(10);

/// How often the state is published at most …
const PUBLISH: Duration = Duration::from_millis(20);
/// … and at least this many times longer than it takes.
const PUBLISH_SHARE: u32 = 20;

/// A flush waits this long for everything to be acknowledged. Under a steady load of new flows that never happens;
/// what is left then is younger than [`FLUSHED`].
const FLUSH_EVERYTHING: Duration = Duration::from_millis(5);

/// See [`FLUSH_EVERYTHING`].
const FLUSHED: Duration = Duration::from_millis(2);

/// From the rest of the daemon.
pub(super) enum Command {
    Peers(BTreeSet<NodeId>),
    Groups {
        /// As of this index of the log.
        as_of: LogIndex,
        /// With the epoch of each one's assignment.
        groups: BTreeMap<GroupId, Epoch>,
        /// Those that this node holds, or is to, since when in the log.
        memberships: BTreeMap<GroupId, LogIndex>,
        /// Who holds each, or is to.
        replicas: Replicas,
    },
    Ages(BTreeMap<ServiceId, Duration>),
    /// `done` hears whether everything was written in time.
    TakeOver {
        group: GroupId,
        epoch: Epoch,
        deadline: Instant,
        done: blocking::SyncSender<bool>,
    },
    Closed(GroupId),
    Flush {
        deadline: Instant,
        done: blocking::SyncSender<bool>,
    },
}

/// From the other threads of replication.
pub(super) enum Done {
    Written(Written),
    Swept { work: WorkId, result: anyhow::Result<u64> },
    Page { pass: PassId, share: f64, result: anyhow::Result<(Vec<FlowRecord>, bool)> },
    Removed(Vec<(Epoch, FlowChange)>),
    Listed { peer: Option<NodeId>, round: RoundId, result: anyhow::Result<Listing> },
    Digest { stream: StreamId, round: RoundId, digest: Digest },
    Compared { stream: StreamId, round: RoundId, comparison: Comparison },
}

struct TakeOver {
    group: GroupId,
    epoch: Epoch,
    deadline: Instant,
    done: blocking::SyncSender<bool>,
}

struct Flush {
    asked: Instant,
    deadline: Instant,
    done: blocking::SyncSender<bool>,
}

impl Flush {
    /// When time alone decides something; acknowledgements wake the driver by themselves.
    fn next_look(&self) -> Instant {
        let patience = self.asked + FLUSH_EVERYTHING;
        if patience > Instant::now() { patience.min(self.deadline) } else { self.deadline }
    }
}

/// The threads that work at the table, which would hold up this one.
pub(super) struct Workers {
    pub(super) line: Line,
    pub(super) pages: blocking::Sender<NextPage>,
    pub(super) audits: blocking::Sender<AuditJob>,
}

pub(super) struct Driver<E> {
    started: Instant,
    /// The kernel's clock then: births are read from it.
    started_kernel: KernelInstant,
    origin: Origin,
    receiver: Receiver,
    events: E,
    workers: Workers,
    /// This node's table, as it was read for a round; what the kernel reported before that is to be handed over first.
    listed: Option<(RoundId, Listing)>,
    /// The newest life of each stream, in both directions.
    down: BTreeMap<StreamId, (Connection, StreamSender<Down>)>,
    up: BTreeMap<StreamId, (Connection, StreamSender<Up>)>,
    groups: BTreeSet<GroupId>,
    takeovers: Vec<TakeOver>,
    flushes: Vec<Flush>,
    /// The ring buffer is to be read in the next turn.
    more_events: bool,
    pace: Pace,
    next_acknowledgement: Instant,
    next_tick: Instant,
    next_publish: Instant,
    status: Arc<ArcSwap<Snapshot>>,
    sent: SentBytes,
    rates: Rates,
    /// How much of the table the pass under way has read, 0 to 1.
    walked: f64,
}

/// Starts the thread; it ends when the last command sender is dropped. The streams are to run there as well: what the driver
/// says leaves, and what comes reaches it, without waking another thread.
pub(super) fn start<E: Events>(
    mut driver: Driver<E>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut streams: mpsc::Receiver<StreamEvent>,
    mut done: mpsc::UnboundedReceiver<Done>,
    threads: Lendable,
) -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let descriptor = driver.events.descriptor()?;
    let ring = {
        let _reactor = runtime.enter();
        // SAFETY: the AsyncFd owns the descriptor, and nobody else has its number.
        unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?
    };
    let handle = runtime.handle().clone();
    let run = move || {
        threads.enrol();
        // A task like the streams': those wake it by an entry in a queue.
        let driving =
            runtime.spawn(async move { driver.run(ring, &mut commands, &mut streams, &mut done).await });
        runtime.block_on(driving).expect("the daemon does not survive a panic");
    };
    std::thread::Builder::new().name("flow-sync".into()).spawn(run)?;
    Ok(handle)
}

impl<E: Events> Driver<E> {
    pub(super) fn new(
        origin: Origin,
        receiver: Receiver,
        events: E,
        workers: Workers,
        status: Arc<ArcSwap<Snapshot>>,
        sent: SentBytes,
    ) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            started_kernel: KernelInstant::now(),
            origin,
            receiver,
            events,
            workers,
            listed: None,
            down: BTreeMap::new(),
            up: BTreeMap::new(),
            groups: BTreeSet::new(),
            takeovers: Vec::new(),
            flushes: Vec::new(),
            // What was reported before this start has been lying there since.
            more_events: true,
            pace: Pace::new(now),
            next_acknowledgement: now,
            next_tick: now,
            next_publish: now,
            status,
            sent,
            rates: Rates::new(now),
            walked: 0.0,
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.started_kernel.plus(self.started.elapsed()).0)
    }

    async fn run(
        &mut self,
        ring: AsyncFd<OwnedFd>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        streams: &mut mpsc::Receiver<StreamEvent>,
        done: &mut mpsc::UnboundedReceiver<Done>,
    ) {
        let mut timer = pin!(sleep_until(self.next_wake().into()));
        loop {
            // A timer that is set to an earlier time than the runtime last knew of wakes it by a system call.
            let wake = self.next_wake().into();
            if timer.is_elapsed() || wake < timer.deadline() {
                timer.as_mut().reset(wake);
            }
            let reading = self.takeovers.is_empty();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => {
                        if matches!(command, Command::TakeOver { .. }) {
                            // What has arrived counts as read.
                            while let Ok(event) = streams.try_recv() {
                                self.stream_event(event);
                            }
                        }
                        self.command(command);
                    }
                    None => return,
                },
                Some(finished) = done.recv() => self.done(finished),
                ready = ring.readable() => {
                    // Cleared before the ring is read: what comes during that raises it again.
                    ready.expect("the reactor lives as long as this thread").clear_ready();
                    self.more_events = true;
                }
                Some(event) = streams.recv(), if reading => self.stream_event(event),
                // The runtime's timers are a millisecond late.
                () = std::future::ready(()), if self.more_events => {}
                () = timer.as_mut() => {
                    if Instant::now() < self.next_wake() {
                        continue;
                    }
                }
            }
            for _ in 0..MESSAGES_PER_TURN {
                let Ok(finished) = done.try_recv() else { break };
                self.done(finished);
            }
            if self.takeovers.is_empty() {
                for _ in 0..MESSAGES_PER_TURN {
                    let Ok(event) = streams.try_recv() else { break };
                    self.stream_event(event);
                }
            }
            self.turn();
            // The streams' tasks write what was said.
            yield_now().await;
            self.gather().await;
        }
    }

    /// Lets work come together. (The runtime's own timers are too coarse for this.)
    async fn gather(&mut self) {
        let pause = self.pace.pause(Instant::now());
        if !pause.is_zero() && self.takeovers.is_empty() && self.flushes.is_empty() {
            std::thread::sleep(pause);
            // The runtime looks what has come in the meantime, and then the streams' tasks read it.
            yield_now().await;
            yield_now().await;
        }
        self.pace.begin(Instant::now());
    }

    fn next_wake(&self) -> Instant {
        let instant = |at: Time| self.started + KernelInstant(at.as_nanos()).since(self.started_kernel);
        let core = self.origin.next_deadline().map(instant);
        let takeovers = self.takeovers.iter().map(|takeover| takeover.deadline);
        let flushes = self.flushes.iter().map(Flush::next_look);
        // A little late, as the runtime's timers are: who waits for it under load is not kept waiting, as other work comes.
        let owed = self.receiver.owes_acknowledgement().then_some(self.next_acknowledgement);
        let others = core.into_iter().chain(takeovers).chain(flushes).chain(owed);
        others.chain([self.next_tick]).min().expect("there is always the next tick")
    }

    /// What is due whatever woke the driver.
    fn turn(&mut self) {
        let instant = Instant::now();
        if instant >= self.next_tick {
            self.next_tick = instant + TICK;
            self.look_for_lost();
            // Should a wake-up ever be missed, it costs one tick.
            self.more_events = true;
        }
        let emptied = self.read_events(EVENTS_PER_TURN);
        if emptied && let Some((round, listing)) = self.listed.take() {
            self.look_for_lost();
            self.origin.handle_listed(round, listing);
        }
        let now = self.now();
        if self.origin.next_deadline().is_some_and(|at| at <= now) {
            self.origin.handle_timeout(now);
        }
        self.work();
        self.finish_takeovers();
        self.finish_flushes();
        // A takeover makes work.
        self.work();
        if instant >= self.next_publish {
            self.publish();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Peers(peers) => {
                self.receiver.set_peers(&peers);
                self.origin.set_peers(peers);
            }
            Command::Groups { as_of, groups, memberships, replicas } => {
                for group in self.groups.iter().filter(|group| !groups.contains_key(group)) {
                    self.receiver.forget(*group);
                }
                groups.iter().for_each(|(group, epoch)| self.receiver.learn_epoch(*group, *epoch));
                self.groups = groups.into_keys().collect();
                self.receiver.set_memberships(memberships);
                self.origin.set_replicas(self.now(), as_of, replicas);
            }
            Command::Ages(ages) => self.origin.set_ages(self.now(), ages),
            Command::TakeOver { group, epoch, deadline, done } => {
                self.takeovers.push(TakeOver { group, epoch, deadline, done });
            }
            Command::Closed(group) => {
                // What happened under the lease is sent under its epoch.
                self.more_events = true;
                self.read_events(usize::MAX);
                self.origin.disown(self.now(), group);
                self.receiver.disown(self.now(), group);
            }
            Command::Flush { deadline, done } => {
                self.more_events = true;
                self.origin.release_young(self.now());
                self.flushes.push(Flush { asked: Instant::now(), deadline, done });
            }
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Written(written) => {
                self.workers.line.returned();
                self.written(written);
            }
            Done::Swept { work, result: Ok(removed) } => {
                self.workers.line.returned();
                self.receiver.handle_swept(now, work, removed);
            }
            Done::Swept { work, result: Err(error) } => {
                self.workers.line.returned();
                tracing::error!(%error, "flows that a walk did not mention cannot be removed");
                self.receiver.handle_sweep_failed(work);
            }
            Done::Page { pass, share, result: Ok((records, last)) } => {
                self.walked = share;
                self.origin.handle_page(now, pass, records, last);
            }
            Done::Page { pass, result: Err(error), .. } => {
                tracing::error!(%error, "the flow table cannot be read for a walk");
                self.origin.handle_page_failed(now, pass);
            }
            Done::Listed { peer: Some(peer), round, result: Ok(listing) } => {
                self.receiver.handle_listed(peer, round, listing);
            }
            Done::Listed { peer: None, round, result: Ok(listing) } => {
                self.listed = Some((round, listing));
                self.more_events = true;
            }
            Done::Listed { peer, round, result: Err(error) } => {
                tracing::error!(%error, "the flow table cannot be read for a digest");
                if peer.is_none() {
                    self.origin.handle_list_failed(now, round);
                }
            }
            Done::Digest { stream, round, digest } => self.origin.handle_digest(stream, round, digest),
            Done::Compared { stream, round, comparison } => {
                self.receiver.handle_compared(now, stream, round, comparison);
            }
            Done::Removed(removed) => {
                for (epoch, change) in removed {
                    self.origin.handle_change(now, change, epoch);
                }
            }
        }
    }

    fn stream_event(&mut self, event: StreamEvent) {
        let now = self.now();
        match event {
            StreamEvent::Subscribed { stream, connection, message, sender } => {
                self.down.insert(stream, (connection, sender));
                self.origin.handle_up(now, stream, connection, message);
            }
            StreamEvent::Up { stream, connection, message } => {
                self.origin.handle_up(now, stream, connection, message);
            }
            StreamEvent::Unsubscribed { stream, connection } => self.drop_down(stream, connection),
            StreamEvent::Connected { stream, connection, sender } => {
                self.up.insert(stream, (connection, sender));
                self.receiver.connected(stream, connection);
            }
            StreamEvent::Down { stream, connection, message } => {
                self.receiver.handle_down(now, stream, connection, message);
            }
            StreamEvent::Disconnected { stream, connection } => self.drop_up(stream, connection),
        }
    }

    fn drop_down(&mut self, stream: StreamId, connection: Connection) {
        if self.down.get(&stream).is_some_and(|(current, _)| *current == connection) {
            self.down.remove(&stream);
        }
        self.origin.disconnected(stream, connection);
    }

    fn drop_up(&mut self, stream: StreamId, connection: Connection) {
        if self.up.get(&stream).is_some_and(|(current, _)| *current == connection) {
            self.up.remove(&stream);
        }
        self.receiver.disconnected(stream, connection);
    }

    fn finish_takeovers(&mut self) {
        let (now, instant, drained) = (self.now(), Instant::now(), self.receiver.is_idle());
        for takeover in self.takeovers.extract_if(.., |takeover| drained || instant >= takeover.deadline) {
            self.receiver.own(now, takeover.group, takeover.epoch);
            self.origin.own(now, takeover.group, takeover.epoch);
            // It may have stopped waiting.
            let _late = takeover.done.try_send(drained);
        }
    }

    fn finish_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        self.origin.release_later();
        let (now, instant) = (self.now(), Instant::now());
        let read = !self.more_events;
        let nothing_left = read && self.origin.is_flushed();
        let little_left =
            read && self.origin.lag(now).iter().all(|lag| !lag.connected || lag.oldest < FLUSHED);
        self.flushes.retain(|flush| {
            let flushed = nothing_left || (little_left && instant >= flush.asked + FLUSH_EVERYTHING);
            if !flushed && instant < flush.deadline {
                return true;
            }
            let _late = flush.done.try_send(flushed);
            false
        });
    }

    fn publish(&mut self) {
        let begun = Instant::now();
        let (lost, malformed) = self.events.totals();
        let counted = [("events_lost", lost), ("events_malformed", malformed)];
        let (now, sent) = (self.now(), &self.sent);
        let lags = self.origin.lags(now);
        let mut peers = peer_status::by_peer(&self.origin.lag(now), self.walked, |id| sent.get(id), lags);
        self.rates.apply(begun, &mut peers);
        let snapshot = Snapshot::take(now, &self.origin, &self.receiver, peers, &counted);
        self.status.store(Arc::new(snapshot));
        self.next_publish = begun + PUBLISH.max(begun.elapsed() * PUBLISH_SHARE);
    }
}
