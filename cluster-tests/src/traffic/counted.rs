//! Datagrams each of which is accounted for: what was sent and not answered is lost, and is counted, not made up for
//! by a later one. Flows live on from one count to the next.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::pattern::{Direction, Pattern};
use super::reactor::Reactor;
use super::talk::{HELLO, Hello, any_port};
use crate::clock::{self, Nanos, nanos};
use crate::namespace::Handle;
use crate::wait;
use crate::workers::{Stop, Workers};

/// Between two datagrams of one flow.
const INTERVAL: Duration = Duration::from_millis(4);
const TICK: Duration = Duration::from_millis(1);
const BYTES: usize = 120;
/// How long an answer may take before its datagram counts as lost: far more than a busy machine's delays.
const ANSWER: Duration = Duration::from_secs(3);
/// A receive buffer that is not overrun while the client is not scheduled for a while.
const BUFFER: usize = 8 << 20;
const PROGRESS: Duration = Duration::from_secs(10);

/// One UDP flow.
#[derive(Debug)]
pub struct Flow {
    name: String,
    socket: UdpSocket,
    server: Hello,
    next: u64,
    due: Nanos,
    open: BTreeSet<u64>,
    tally: Tally,
}

/// What became of datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent.
    pub sent: u64,
    /// Never answered.
    pub lost: u64,
    /// Answers to nothing, or a second time.
    pub stray: u64,
    /// Answers with other bytes, or from another server than the flow's, and what was wrong with the last.
    pub wrong: u64,
    /// The last of them.
    pub last_wrong: String,
}

impl Tally {
    /// Every one was answered, once, by whom it had to be.
    pub fn demand_all(&self) -> anyhow::Result<()> {
        ensure!(self.sent > 0, "no datagram was sent");
        ensure!(self.lost == 0, "{} of {} datagrams were lost", self.lost, self.sent);
        self.demand_right()
    }

    /// None was answered wrongly; they may have been lost.
    pub fn demand_right(&self) -> anyhow::Result<()> {
        ensure!(self.stray == 0, "{} answers too many", self.stray);
        ensure!(self.wrong == 0, "{} wrong answers, the last {}", self.wrong, self.last_wrong);
        Ok(())
    }

    fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.stray += other.stray;
        self.wrong += other.wrong;
        if !other.last_wrong.is_empty() {
            self.last_wrong = other.last_wrong;
        }
    }
}

impl Flow {
    /// Opens it and hears who answers.
    pub fn open(name: &str, namespace: &Handle, from: IpAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = namespace.run(|| {
            let socket = UdpSocket::bind(any_port(from)).with_context(|| format!("cannot bind {from}"))?;
            socket.connect(to).with_context(|| format!("cannot reach {to}"))?;
            setsockopt(&socket, RcvBufForce, &BUFFER).context("cannot set a receive buffer")?;
            socket.set_read_timeout(Some(ANSWER))?;
            Ok(socket)
        })?;
        socket.send(&payload(0))?;
        let mut bytes = [0; HELLO + BYTES + 1];
        let got = socket.recv(&mut bytes).with_context(|| format!("{name}: no first answer"))?;
        let (number, server) = read(&bytes[..got]).with_context(|| name.to_owned())?;
        ensure!(number == 0, "{name}: the first answer is to datagram {number}");
        socket.set_nonblocking(true)?;
        let name = format!("{name} from {}", socket.local_addr()?);
        Ok(Flow { name, socket, server, next: 1, due: 0, open: BTreeSet::new(), tally: Tally::default() })
    }

    fn ask(&mut self, now: Nanos) {
        // A full send buffer, or no route, is a datagram lost as well.
        drop(self.socket.send(&payload(self.next)));
        self.open.insert(self.next);
        self.next += 1;
        self.tally.sent += 1;
        self.due = (self.due + nanos(INTERVAL)).max(now);
    }

    /// Takes every answer that is there; how many were right.
    fn hear(&mut self) -> anyhow::Result<u64> {
        let mut right = 0;
        let mut bytes = [0; HELLO + BYTES + 1];
        loop {
            let got = match self.socket.recv(&mut bytes) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(right),
                // What an ICMP message left on the socket; its datagram is counted as lost.
                Err(error) if super::udp_client::is_network_error(error.kind()) => continue,
                Err(error) => return Err(error).with_context(|| format!("{}: cannot receive", self.name)),
            };
            match read(&bytes[..got]) {
                Ok((number, server)) if server == self.server => match self.open.remove(&number) {
                    true => right += 1,
                    false => self.tally.stray += 1,
                },
                Ok((number, server)) => {
                    self.wrong(format!("{number} is answered by {server}, not {}", self.server));
                }
                Err(error) => self.wrong(format!("{error:#}")),
            }
        }
    }

    fn wrong(&mut self, what: String) {
        self.tally.wrong += 1;
        self.tally.last_wrong = format!("{}: {what}", self.name);
    }
}

fn payload(number: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    Pattern::new(number, Direction::Up).fill(0, &mut bytes);
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn read(answer: &[u8]) -> anyhow::Result<(u64, Hello)> {
    ensure!(answer.len() == HELLO + BYTES, "an answer of {} bytes", answer.len());
    let (hello, body) = answer.split_at(HELLO);
    let number = u64::from_be_bytes(body[..8].try_into().expect("eight bytes"));
    ensure!(body == payload(number), "datagram {number} came back altered");
    Ok((number, Hello::decode(hello)?))
}

/// Flows under count; stopped when dropped.
#[derive(Debug)]
pub struct Counted {
    workers: Workers<Vec<Flow>>,
    answered: Arc<AtomicU64>,
}

impl Counted {
    /// Begins to count.
    pub fn start(mut flows: Vec<Flow>) -> anyhow::Result<Self> {
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        let mut workers = Workers::new("counted datagrams");
        workers.spawn("counted", move |stop| {
            run(&mut flows, stop, &count)?;
            Ok(flows)
        })?;
        Ok(Counted { workers, answered })
    }

    /// Waits until `more` datagrams more are answered.
    pub fn answered(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait::until("datagrams to be answered", PROGRESS, || {
            let done = self.workers.any_ended() || self.answered.load(Ordering::Relaxed) >= goal;
            Ok(done.then_some(()))
        })
    }

    /// Waits for what is under way, and says what became of all.
    pub fn finish(self) -> anyhow::Result<(Vec<Flow>, Tally)> {
        let mut flows: Vec<Flow> = self.workers.stop()?.into_iter().flatten().collect();
        let mut all = Tally::default();
        for flow in &mut flows {
            flow.tally.lost = std::mem::take(&mut flow.open).len() as u64;
            all.add(std::mem::take(&mut flow.tally));
        }
        Ok((flows, all))
    }
}

fn run(flows: &mut [Flow], stop: &Stop, answered: &AtomicU64) -> anyhow::Result<()> {
    let reactor = Reactor::new(TICK)?;
    let start = clock::now();
    let spread = nanos(INTERVAL) / flows.len().max(1) as u64;
    for (index, flow) in flows.iter_mut().enumerate() {
        reactor.watch_input(&flow.socket, index)?;
        flow.due = start + spread * index as u64;
    }
    let mut end = None;
    loop {
        let turn = reactor.turn()?;
        for index in turn.tokens() {
            answered.fetch_add(flows[index].hear()?, Ordering::Relaxed);
        }
        let now = clock::now();
        if !stop.requested() {
            flows.iter_mut().filter(|flow| flow.due <= now).for_each(|flow| flow.ask(now));
        } else if flows.iter().all(|flow| flow.open.is_empty())
            || now > *end.get_or_insert(now + nanos(ANSWER))
        {
            return Ok(());
        }
    }
}
