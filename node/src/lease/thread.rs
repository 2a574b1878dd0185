//! The thread itself: receiving, deciding, writing and sending, one turn after the other.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use lockstep_model::ids::NodeId;
use lockstep_ownership::failover::FailoverRecord;
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::message::{Message, Tenure};
use lockstep_ownership::owner::Until;
use lockstep_ownership::participant::{Output, Participant};
use lockstep_ownership::time::Instant;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{mpsc, oneshot};

use super::clock::{self, CLOCK_STEP};
use super::counters::Counters;
use super::handle::{Handle, Input};
use super::helpers::{Helpers, PREPARE};
use super::realtime::{Granted, Processors};
use super::seal::{MAX_DATAGRAM, Seal};
use super::sink::{KernelUntil, LeaseSink};
use super::snapshot::{MAX_FAILOVERS, Snapshot};
use super::stand_in::Turns;
use super::{Event, Settings};

/// Datagrams read before the timers are looked at again.
const BURST: usize = 64;
/// How old a snapshot may be while things happen.
const SNAPSHOT_AGE: Duration = Duration::from_millis(20);
/// Later than this is counted.
const LATE: Duration = Duration::from_millis(1);

/// Starts the thread. `events` should have room for [`super::EVENT_QUEUE`].
pub(crate) fn spawn(
    settings: &Settings,
    sink: Arc<dyn LeaseSink>,
    events: mpsc::Sender<Event>,
) -> Result<Handle> {
    // Kernels without time namespaces have no such file.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    clock::refuse_shifted(&offsets).map_err(anyhow::Error::msg)?;
    let socket = UdpSocket::bind(settings.listen)
        .with_context(|| format!("lease.listen: cannot receive datagrams on {}", settings.listen))?;
    socket.set_nonblocking(true).context("lease.listen: the socket cannot be made non-blocking")?;
    start(settings, socket, sink, events)
}

/// As [`spawn`], on a socket that is there already.
pub(super) fn start(
    settings: &Settings,
    socket: UdpSocket,
    sink: Arc<dyn LeaseSink>,
    events: mpsc::Sender<Event>,
) -> Result<Handle> {
    let (handle, turns) = prepare(settings, socket, sink, events)?;
    spawn_all(&turns).context("the lease thread cannot start")?;
    Ok(handle)
}

/// All but the threads that take the turns.
pub(super) fn prepare(
    settings: &Settings,
    socket: UdpSocket,
    sink: Arc<dyn LeaseSink>,
    events: mpsc::Sender<Event>,
) -> Result<(Handle, Arc<Turns>)> {
    // Later runs within one boot start later.
    let me = Identity { node: settings.node, boot: boot_id()?, incarnation: clock::now().as_nanos() };
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).context("eventfd")?;
    let (inputs, received) = channel();
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let handle = Handle { inputs, wake: Arc::new(wake), snapshot };
    let helpers = Helpers::start(&sink, &handle).context("the lease thread's helpers cannot start")?;
    let mut participant = Participant::new(clock::now(), me, CLOCK_STEP);
    participant.forgo(settings.forgone);
    let (socket, wake) = (Arc::new(socket), handle.wake.clone());
    let thread = LeaseThread {
        participant,
        seal: Seal::new(&settings.secret, settings.cluster, me),
        socket: socket.clone(),
        inputs: received,
        handle: handle.clone(),
        helpers,
        sink,
        events,
        addresses: BTreeMap::new(),
        opening: BTreeMap::new(),
        written: BTreeMap::new(),
        failovers: Arc::default(),
        was_idle: true,
        published: Instant::default(),
        counters: Counters::default(),
        growing: Vec::new(),
    };
    Ok((handle, Arc::new(Turns::new(thread, socket, wake))))
}

fn spawn_all(turns: &Arc<Turns>) -> io::Result<()> {
    let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let (most, one) = Processors::in_two_parts()?.unzip();
    let (mine, other) = (turns.clone(), turns.clone());
    named("lease").spawn(move || mine.run(most.as_ref()))?;
    if let Some(one) = one {
        named("lease-stand-in").spawn(move || other.stand_in(&one))?;
    }
    Ok(())
}

fn boot_id() -> Result<BootId> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).with_context(|| format!("{PATH} cannot be read"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).with_context(|| format!("{PATH} holds {text:?}"))?;
    Ok(BootId(number.to_be_bytes()))
}

/// A lease that waits for what is queued to be applied.
struct Opening {
    until: Until,
    since: Instant,
}

/// What the thread knows. Its turns are taken by whoever holds it, see [`Turns`].
pub(super) struct LeaseThread {
    participant: Participant,
    seal: Seal,
    socket: Arc<UdpSocket>,
    inputs: Receiver<Input>,
    handle: Handle,
    helpers: Helpers,
    sink: Arc<dyn LeaseSink>,
    events: mpsc::Sender<Event>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    opening: BTreeMap<Tenure, Opening>,
    /// Leases in the kernel, and their ends.
    written: BTreeMap<Tenure, Until>,
    failovers: Arc<VecDeque<FailoverRecord>>,
    was_idle: bool,
    published: Instant,
    counters: Counters,
    /// Who waits for every lease to have an end.
    growing: Vec<oneshot::Sender<()>>,
}

impl LeaseThread {
    /// Everything that can be done now; whether to go on.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> bool {
        if !self.take_inputs() || !self.receive(buffer) {
            return false;
        }
        self.expire();
        self.answer_growth();
        self.publish();
        true
    }

    /// When the next turn is due at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let opening = self.opening.values().map(|o| o.since + PREPARE);
        let ends = self.written.values().filter_map(|until| match until {
            Until::At(at) => Some(*at),
            Until::Unbounded => None,
        });
        opening.chain(ends).chain(self.participant.next_deadline()).min()
    }

    /// What the thread was granted.
    pub(super) fn granted(&mut self, granted: Granted) {
        self.counters.granted = granted;
    }

    /// It woke so long after a deadline.
    pub(super) fn woke(&mut self, late: Duration) {
        if late > LATE {
            self.counters.late_wakeups += 1;
            self.counters.latest_wakeup_us = self.counters.latest_wakeup_us.max(late.as_micros() as u64);
        }
    }

    /// The next turn is the stand-in's.
    pub(super) fn stood_in_for(&mut self) {
        self.counters.stand_in_turns += 1;
    }

    /// Whether to go on.
    fn take_inputs(&mut self) -> bool {
        while let Ok(input) = self.inputs.try_recv() {
            let now = clock::now();
            match input {
                Input::Log(event) => self.participant.handle_log(now, event),
                Input::Applied { view, addresses } => {
                    self.addresses = addresses;
                    self.participant.handle_view(now, view);
                }
                Input::Leadership { leads, leader } => {
                    self.participant.handle_leader(now, leader);
                    self.participant.handle_leadership(now, leads);
                }
                Input::Status(status) => self.participant.handle_status(now, status),
                Input::Flushed(tenure) => self.participant.handle_flushed(now, tenure),
                Input::OperatorTransfer => self.participant.handle_operator_transfer(now),
                Input::PrepareGrowth(bounded) => {
                    self.participant.prepare_growth(now);
                    self.growing.push(bounded);
                }
                Input::GrowthDone => self.participant.growth_done(),
                Input::Surrender => self.participant.surrender(now),
                Input::Prepared(tenures) => tenures.into_iter().for_each(|t| self.open(t)),
                Input::GraceOver(tenure) => self.closed(now, tenure),
                Input::GraceFailed(tenure) => {
                    self.counters.grace_period_failures += 1;
                    self.closed(now, tenure);
                }
                Input::Stop => return false,
            }
            self.carry_out();
        }
        true
    }

    /// Whether to go on.
    fn receive(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..BURST {
            let length = match self.socket.recv_from(buffer) {
                Ok((length, _)) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {
                    // An ICMP error for something sent, mostly: a peer's daemon is down.
                    self.counters.receive_failures += 1;
                    continue;
                }
            };
            self.counters.received += 1;
            match self.seal.open(&buffer[..length]) {
                Ok((from, message)) => {
                    // The clock, then the log, then the datagram: what is appended later than this reading
                    // finds a promise that was made before it.
                    let now = clock::now();
                    if !self.take_inputs() {
                        return false;
                    }
                    self.participant.handle_message(now, from, message);
                    self.carry_out();
                }
                Err(reason) => *self.counters.dropped.entry(reason).or_default() += 1,
            }
        }
        true
    }

    /// What only time has decided.
    fn expire(&mut self) {
        let now = clock::now();
        if self.participant.next_deadline().is_some_and(|at| now >= at) {
            self.participant.handle_timeout(now);
            self.carry_out();
        }
        let overdue: Vec<Tenure> =
            self.opening.iter().filter(|(_, o)| now >= o.since + PREPARE).map(|(t, _)| *t).collect();
        for tenure in overdue {
            self.counters.opened_unprepared += 1;
            self.open(tenure);
        }
        let lapsed: Vec<Tenure> =
            self.written.iter().filter(|(_, until)| !until.holds(now)).map(|(t, _)| *t).collect();
        for tenure in lapsed {
            self.written.remove(&tenure);
            self.tell(Event::Lapsed(tenure));
        }
        let idle = self.participant.owner().is_idle();
        if idle && !self.was_idle {
            self.tell(Event::Idle);
        }
        self.was_idle = idle;
    }

    /// What the machine says is not enough: the kernel is looked at, which may hold what an earlier run wrote.
    fn answer_growth(&mut self) {
        if !self.growing.is_empty() && self.participant.owner().is_bounded() && self.sink.is_bounded() {
            for waiting in self.growing.drain(..) {
                // Who has given up waiting has also said that nothing grows.
                let _gone = waiting.send(());
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.participant.poll_output() {
            match output {
                Output::Send { to, message } => self.send(to, &message),
                Output::SetLease { tenure, until, .. } => self.set_lease(tenure, until),
                Output::CloseLease(tenure) => self.close_lease(tenure),
                Output::Flush { tenure, deadline } => self.tell(Event::Flush { tenure, deadline }),
                Output::IntentStale(stale) => self.tell(Event::IntentStale(stale)),
                Output::Assign { group, replaces, node, cause } => {
                    self.tell(Event::Assign { group, replaces, node, cause });
                }
                Output::SetReplicas { group, epoch, replaces, nodes } => {
                    self.tell(Event::SetReplicas { group, epoch, replaces, nodes });
                }
                Output::TransferLeader(to) => self.tell(Event::TransferLeader(to)),
                Output::Campaign { against } => self.tell(Event::Campaign { against }),
                Output::Failover(record) => self.remember(record),
            }
        }
    }

    fn remember(&mut self, record: FailoverRecord) {
        let failovers = Arc::make_mut(&mut self.failovers);
        if failovers.len() >= MAX_FAILOVERS {
            failovers.pop_front();
        }
        failovers.push_back(record);
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        let Some(address) = self.addresses.get(&to) else {
            self.counters.send_unaddressed += 1;
            return;
        };
        let datagram = self.seal.seal(to, message);
        if datagram.len() > MAX_DATAGRAM {
            self.counters.too_large += 1;
            return;
        }
        match self.socket.send_to(&datagram, address) {
            Ok(_) => self.counters.sent += 1,
            Err(_) => self.counters.send_failures += 1,
        }
    }

    /// Extends a lease that is in the kernel; one that is not is prepared first.
    fn set_lease(&mut self, tenure: Tenure, until: Until) {
        if self.written.contains_key(&tenure) {
            self.write(tenure, until);
        } else if let Some(opening) = self.opening.get_mut(&tenure) {
            opening.until = until;
        } else {
            self.opening.insert(tenure, Opening { until, since: clock::now() });
            self.helpers.prepare(tenure);
        }
    }

    fn open(&mut self, tenure: Tenure) {
        let Some(opening) = self.opening.remove(&tenure) else { return };
        if !self.write(tenure, opening.until) {
            return;
        }
        self.participant.handle_map_written(clock::now(), tenure);
        let announced = self.sink.announce(tenure);
        self.tell(Event::Opened(tenure));
        self.participant.handle_announced(clock::now(), tenure, announced);
        self.carry_out();
    }

    /// Whether the kernel has it now.
    fn write(&mut self, tenure: Tenure, until: Until) -> bool {
        let end = match until {
            Until::Unbounded => KernelUntil::Unbounded,
            Until::At(at) => match clock::kernel_until(at) {
                Some(end) => KernelUntil::At(end),
                None => {
                    self.counters.writes_too_late += 1;
                    return false;
                }
            },
        };
        if self.sink.set(tenure, end).is_err() {
            self.counters.writes_refused += 1;
            return false;
        }
        // An earlier tenure of the group has ended in this one.
        self.written.retain(|t, _| t.group != tenure.group);
        self.written.insert(tenure, until);
        true
    }

    fn close_lease(&mut self, tenure: Tenure) {
        let ended = |t: &Tenure| t.group == tenure.group && t.epoch <= tenure.epoch;
        self.opening.retain(|t, _| !ended(t));
        self.written.retain(|t, _| !ended(t));
        let newer = self.written.keys().any(|t| t.group == tenure.group);
        if !newer && self.sink.close(tenure).is_err() {
            // No slot, no lease: closed as can be.
            self.counters.writes_refused += 1;
        }
        self.helpers.wait_grace_period(tenure);
    }

    fn closed(&mut self, now: Instant, tenure: Tenure) {
        // What an earlier run left of somebody else's group is closed as well, but was never this run's.
        let own = self.participant.owner().claims().any(|(claimed, ..)| claimed == tenure);
        self.participant.handle_closed(now, tenure);
        if own {
            self.tell(Event::Closed(tenure));
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.counters.events_lost += 1;
        }
    }

    fn publish(&mut self) {
        let now = clock::now();
        let held: Vec<Tenure> = self.written.keys().copied().collect();
        let changed = {
            let shown = self.handle.snapshot.load();
            shown.held != held
                || shown.idle != self.was_idle
                || !Arc::ptr_eq(&shown.failovers, &self.failovers)
        };
        if changed || now >= self.published + SNAPSHOT_AGE {
            self.published = now;
            let failovers = self.failovers.clone();
            let snapshot = Snapshot::of(now, &self.participant, held, failovers, &self.counters);
            self.handle.snapshot.store(Arc::new(snapshot));
        }
    }
}
