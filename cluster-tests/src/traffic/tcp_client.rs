//! All TCP clients of a run, on one thread.
//!
//! *Held* flows are opened first and talk to the end; a first part of them writes at 100 Hz, come what may
//! (open loop), and is what the stall is measured on. *Young* flows are opened at a steady rate up to the
//! fault, and must still answer after it. *New* ones are opened from the fault on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::heard::Heard;
use super::reactor::Reactor;
use super::tcp::{Conversation, End};
use crate::clock::{self, Nanos, nanos};
use crate::namespace::Handle;
use crate::workers::Workers;

/// How many held flows write at the fast rate.
pub const FAST_FLOWS: usize = 32;
/// 100 Hz.
const FAST_INTERVAL: Duration = Duration::from_millis(10);
/// The other held flows write less often: two cores carry everything.
pub const SLOW_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes per write.
const WRITE: u64 = 32;
const TICK: Duration = Duration::from_millis(2);
/// New connections opened in one turn at most, when the loop was late.
const MAX_BURST: usize = 16;
/// Flows of one run, of all kinds.
const MAX_FLOWS: usize = 12_000;
/// Held flows opened at once, so that opening does not overrun a queue.
const OPEN_RATE: f64 = 2_000.0;
/// A young flow writes this long after the fault, spread over as long again.
const YOUNG_WRITES_AFTER: Duration = Duration::from_millis(200);

/// How held flows write.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many of them write at 100 Hz.
    pub fast: usize,
    /// Between two writes of each of the others.
    pub slow: Duration,
}

/// What a flow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opened first, talks to the end.
    Held,
    /// Opened shortly before the fault.
    Young,
    /// Opened after the fault.
    New,
}

/// One connection, after the run.
#[derive(Debug)]
pub struct Flow {
    /// What it was for.
    pub kind: Kind,
    /// When its SYN was sent.
    pub opened_at: Nanos,
    /// When it was connected.
    pub connected_at: Option<Nanos>,
    /// When predicted bytes came back; held flows only.
    pub heard: Vec<Nanos>,
    /// Its state.
    pub conversation: Conversation,
    /// The client's address and port.
    pub local: SocketAddr,
    interval: Option<Nanos>,
}

impl Flow {
    /// Whether every byte written was answered, right, and the connection stands.
    pub fn intact(&self) -> bool {
        self.conversation.settled() && self.conversation.received() > 0
    }

    /// Whether it is one of those the stall is measured on.
    pub fn is_fast(&self) -> bool {
        self.interval == Some(nanos(FAST_INTERVAL))
    }
}

enum Command {
    Hold(usize, Pace),
    Young { per_second: f64, limit: usize },
    Fault { at: Nanos, new_per_second: f64, new_for: Duration },
    Look { since: Nanos, answer: Sender<Talking> },
    Finish { limit: Duration },
}

/// How the held flows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talking {
    /// All of them.
    pub held: usize,
    /// Those that stand and had an answer since the time asked for.
    pub heard: usize,
    /// Those that ended, or had a wrong byte.
    pub ended: usize,
}

/// The clients, running.
#[derive(Debug)]
pub struct TcpClients {
    // Dropped first: a thread without a sender of commands ends.
    commands: Sender<Command>,
    intact: Arc<AtomicUsize>,
    heard: Heard,
    workers: Workers<Vec<Flow>>,
}

impl TcpClients {
    /// Starts the thread, without any flow.
    pub fn start(namespace: &Handle, service: SocketAddrV4, sources: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let (commands, receiver) = channel();
        let intact = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&intact);
        let heard = Heard::default();
        let shared = heard.clone();
        let sources = sources.to_vec();
        let mut workers = Workers::new("TCP clients");
        workers.spawn_in(namespace, "tcp-clients", move |_| {
            Clients {
                reactor: Reactor::new(TICK)?,
                service,
                sources,
                flows: Vec::new(),
                due: BinaryHeap::new(),
                openers: Vec::new(),
                intact: counter,
                pace: Pace { fast: FAST_FLOWS, slow: SLOW_INTERVAL },
                heard: shared,
                key: clock::now(),
            }
            .run(&receiver)
        })?;
        Ok(TcpClients { commands, intact, heard, workers })
    }

    /// Opens held flows.
    pub fn hold(&self, flows: usize, pace: Pace) -> anyhow::Result<()> {
        self.send(Command::Hold(flows, pace))
    }

    /// How many held flows were heard for the last time before `time`, as of a moment ago.
    pub fn not_heard_since(&self, time: Nanos) -> usize {
        self.heard.before(time)
    }

    /// How many held flows have had a first byte answered.
    pub fn talking(&self) -> usize {
        self.intact.load(Ordering::Relaxed)
    }

    /// How the held flows did since then.
    pub fn talking_since(&self, since: Nanos) -> anyhow::Result<Talking> {
        let (answer, waiting) = channel();
        self.send(Command::Look { since, answer })?;
        waiting.recv().map_err(|_| anyhow!("the TCP clients' thread has ended"))
    }

    /// Begins to open young flows, until the fault.
    pub fn open_young(&self, per_second: f64, limit: usize) -> anyhow::Result<()> {
        self.send(Command::Young { per_second, limit })
    }

    /// Tells when the fault was, ends the young flows' opening and begins the new ones'.
    pub fn fault(&self, at: Nanos, new_per_second: f64, new_for: Duration) -> anyhow::Result<()> {
        self.send(Command::Fault { at, new_per_second, new_for })
    }

    /// Stops writing and waits up to `limit` for what is outstanding. The connections stay open for as long as the
    /// flows are held: closing them makes packets that a capture would count.
    pub fn finish(self, limit: Duration) -> anyhow::Result<Vec<Flow>> {
        self.send(Command::Finish { limit })?;
        Ok(self.workers.stop()?.into_iter().flatten().collect())
    }

    fn send(&self, command: Command) -> anyhow::Result<()> {
        self.commands.send(command).map_err(|_| anyhow!("the TCP clients' thread has ended"))
    }
}

/// Opens flows of one kind at a steady rate.
struct Opener {
    kind: Kind,
    interval: f64,
    next: f64,
    left: usize,
    until: Nanos,
}

struct Clients {
    reactor: Reactor,
    service: SocketAddrV4,
    sources: Vec<Ipv4Addr>,
    flows: Vec<Flow>,
    due: BinaryHeap<Reverse<(Nanos, usize)>>,
    openers: Vec<Opener>,
    intact: Arc<AtomicUsize>,
    pace: Pace,
    heard: Heard,
    key: u64,
}

impl Clients {
    fn run(mut self, commands: &Receiver<Command>) -> anyhow::Result<Vec<Flow>> {
        let mut finish_at: Option<Nanos> = None;
        loop {
            match commands.try_recv() {
                Ok(Command::Finish { limit }) => {
                    self.due.clear();
                    self.openers.clear();
                    finish_at = Some(clock::now() + nanos(limit));
                }
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => {}
                // The run was given up: the flows end with it.
                Err(TryRecvError::Disconnected) if finish_at.is_none() => return Ok(self.flows),
                Err(TryRecvError::Disconnected) => {}
            }
            let turn = self.reactor.turn()?;
            let now = clock::now();
            for token in turn.tokens() {
                self.advance(token, now);
            }
            if let Some(at) = finish_at {
                let all = |flow: &Flow| flow.intact() || flow.conversation.end().is_some();
                if now >= at || self.flows.iter().all(all) {
                    return Ok(self.flows);
                }
            }
            self.write_due(now);
            self.open_due(now)?;
            let held = self.flows.iter().filter(|flow| flow.kind == Kind::Held);
            self.heard.publish(now, held.map(|flow| flow.heard.last().copied().unwrap_or(0)));
        }
    }

    fn obey(&mut self, command: Command) {
        let now = clock::now();
        let opener = |kind, per_second: f64, left, until| Opener {
            kind,
            interval: 1e9 / per_second,
            next: now as f64,
            left,
            until,
        };
        match command {
            Command::Hold(flows, pace) => {
                self.pace = pace;
                self.openers.push(opener(Kind::Held, OPEN_RATE, flows, Nanos::MAX));
            }
            Command::Young { per_second, limit } => {
                self.openers.push(opener(Kind::Young, per_second, limit, Nanos::MAX));
            }
            Command::Fault { at, new_per_second, new_for } => {
                self.openers.retain(|o| o.kind != Kind::Young);
                let until = at + nanos(new_for);
                self.openers.push(opener(Kind::New, new_per_second, usize::MAX, until));
                let first = at + nanos(YOUNG_WRITES_AFTER);
                let young: Vec<usize> =
                    (0..self.flows.len()).filter(|i| self.flows[*i].kind == Kind::Young).collect();
                let spread = nanos(YOUNG_WRITES_AFTER) / young.len().max(1) as u64;
                for (order, index) in young.into_iter().enumerate() {
                    self.due.push(Reverse((first + spread * order as u64, index)));
                }
            }
            // Who asked may have gone.
            Command::Look { since, answer } => drop(answer.send(self.talking_since(since))),
            Command::Finish { .. } => unreachable!("finish ends the loop and is handled there"),
        }
    }

    fn talking_since(&self, since: Nanos) -> Talking {
        let held = || self.flows.iter().filter(|flow| flow.kind == Kind::Held);
        let ended = |flow: &&Flow| flow.conversation.end().is_some();
        let heard = |flow: &&Flow| !ended(flow) && flow.heard.last().is_some_and(|at| *at >= since);
        Talking {
            held: held().count(),
            heard: held().filter(heard).count(),
            ended: held().filter(ended).count(),
        }
    }

    fn advance(&mut self, index: usize, now: Nanos) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        if flow.connected_at.is_none() && flow.conversation.socket().peer_addr().is_ok() {
            flow.connected_at = Some(now);
        }
        let received = flow.conversation.advance();
        if received > 0 && flow.kind == Kind::Held {
            if flow.heard.is_empty() {
                self.intact.fetch_add(1, Ordering::Relaxed);
            }
            flow.heard.push(now);
        }
    }

    fn write_due(&mut self, now: Nanos) {
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            let flow = &mut self.flows[index];
            flow.conversation.owe(WRITE);
            if let Some(interval) = flow.interval {
                // Open loop: what was missed while the thread was away is written all the same.
                self.due.push(Reverse((at + interval, index)));
            }
            self.advance(index, now);
        }
    }

    fn open_due(&mut self, now: Nanos) -> anyhow::Result<()> {
        let mut openers = std::mem::take(&mut self.openers);
        for opener in &mut openers {
            let mut burst = 0;
            while opener.left > 0 && opener.next <= now as f64 && now < opener.until && burst < MAX_BURST {
                self.open(opener.kind)?;
                opener.next += opener.interval;
                opener.left -= 1;
                burst += 1;
            }
        }
        openers.retain(|o| o.left > 0 && now < o.until);
        self.openers = openers;
        Ok(())
    }

    fn open(&mut self, kind: Kind) -> anyhow::Result<()> {
        if self.flows.len() >= MAX_FLOWS {
            return Ok(());
        }
        let index = self.flows.len();
        let source = self.sources[index % self.sources.len()];
        let opened_at = clock::now();
        let socket = connect(source, self.service)?;
        let local = socket.local_addr().context("a client's socket has no address")?;
        self.reactor.watch(&socket, index)?;
        self.key = self.key.wrapping_add(1);
        let mut conversation = Conversation::client(socket, self.key);
        let held = self.flows.iter().filter(|f| f.kind == Kind::Held).count();
        let interval = match kind {
            Kind::Held if held < self.pace.fast => Some(nanos(FAST_INTERVAL)),
            Kind::Held => Some(nanos(self.pace.slow)),
            Kind::Young | Kind::New => None,
        };
        match interval {
            Some(interval) => self.due.push(Reverse((opened_at + interval, index))),
            None if kind == Kind::New => conversation.owe(WRITE),
            None => {}
        }
        self.flows.push(Flow {
            kind,
            opened_at,
            connected_at: None,
            heard: Vec::new(),
            conversation,
            local,
            interval,
        });
        Ok(())
    }
}

/// A socket that is connecting.
fn connect(source: Ipv4Addr, service: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddrV4::new(source, 0).into()).with_context(|| format!("cannot bind {source}"))?;
    match socket.connect(&service.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {service}")),
    }
    Ok(socket.into())
}

/// How many of these ended with a wrong byte.
pub fn corrupted<'a>(flows: impl Iterator<Item = &'a Flow>) -> usize {
    flows.filter(|f| f.conversation.end() == Some(End::Corrupted)).count()
}
