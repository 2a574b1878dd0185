//! What replication costs: processor time of the daemons by thread, of the whole machine, and bytes on the wire.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use lockstep_cluster_tests::namespace::Handle;

/// Processor time of a process by the names of its threads, ns: what the scheduler charged them with, the kernel's work
/// on their behalf (system calls, and what softirqs did on their back) included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads(BTreeMap<String, u64>);

impl Threads {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        let folder = format!("/proc/{pid}/task");
        for task in fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))? {
            let task = task.with_context(|| format!("cannot list {folder}"))?.path();
            // A thread may end meanwhile.
            let read = |name: &str| fs::read_to_string(task.join(name)).ok();
            let (Some(name), Some(schedule)) = (read("comm"), read("schedstat")) else { continue };
            let time = schedule.split_whitespace().next().and_then(|time| time.parse::<u64>().ok());
            *all.entry(name.trim().to_owned()).or_default() += time.context("schedstat is no number")?;
        }
        Ok(Threads(all))
    }

    fn since(&self, before: &Threads) -> Threads {
        let earlier = |name: &String| before.0.get(name).copied().unwrap_or(0);
        Threads(
            self.0.iter().map(|(name, time)| (name.clone(), time.saturating_sub(earlier(name)))).collect(),
        )
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The machine's time that was not idle, in ticks of `sysconf(_SC_CLK_TCK)`.
fn busy_ticks() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; steal is not ours.
    let busy = [0, 1, 2, 5, 6].iter().map(|field| fields.get(*field).copied().unwrap_or(0));
    Ok(busy.sum())
}

/// Bytes that an interface of `namespace` sent and received.
pub(crate) fn wire_bytes(namespace: &Handle, device: &str) -> anyhow::Result<u64> {
    let text = namespace.run(|| {
        fs::read_to_string("/proc/thread-self/net/dev").context("cannot read /proc/thread-self/net/dev")
    })?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
    let fields: Vec<&str> =
        line.with_context(|| format!("no interface {device}"))?.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Ok(field(0).context("no bytes received")? + field(8).context("no bytes sent")?)
}

/// Whom and what is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) sender: u32,
    pub(crate) receiver: u32,
    pub(crate) wire: Handle,
    pub(crate) device: &'static str,
}

/// The state of all meters at one moment.
pub(crate) struct Reading {
    at: Instant,
    sender: Threads,
    receiver: Threads,
    busy: u64,
    wire: u64,
}

/// What was spent between two readings.
#[derive(Debug, Clone)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    sender: Threads,
    receiver: Threads,
    /// Of all processors, s.
    pub(crate) busy: f64,
    pub(crate) wire: f64,
}

impl Watched {
    pub(crate) fn read(&self) -> anyhow::Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            sender: Threads::of(self.sender)?,
            receiver: Threads::of(self.receiver)?,
            busy: busy_ticks()?,
            wire: wire_bytes(&self.wire, self.device)?,
        })
    }

    pub(crate) fn since(&self, before: &Reading) -> anyhow::Result<Spent> {
        let now = self.read()?;
        // SAFETY: no pointers.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Ok(Spent {
            time: now.at - before.at,
            sender: now.sender.since(&before.sender),
            receiver: now.receiver.since(&before.receiver),
            busy: (now.busy - before.busy) as f64 / ticks.max(1) as f64,
            wire: (now.wire - before.wire) as f64,
        })
    }
}

impl Spent {
    fn net(&self, idle: &Spent, of: impl Fn(&Spent) -> f64) -> f64 {
        let share = self.time.as_secs_f64() / idle.time.as_secs_f64();
        of(self) - of(idle) * share
    }

    /// Processor time of the origin's daemon for each of `flows`, less what it takes idle, µs.
    pub(crate) fn sender_us(&self, idle: &Spent, flows: u64) -> f64 {
        self.net(idle, |spent| spent.sender.total() as f64) / 1e3 / flows as f64
    }

    /// The same of the standby's.
    pub(crate) fn receiver_us(&self, idle: &Spent, flows: u64) -> f64 {
        self.net(idle, |spent| spent.receiver.total() as f64) / 1e3 / flows as f64
    }

    /// How many processors the origin's daemon took, less what it takes idle.
    pub(crate) fn sender_cpus(&self, idle: &Spent) -> f64 {
        self.net(idle, |spent| spent.sender.total() as f64) / 1e9 / self.time.as_secs_f64()
    }

    /// Of the whole machine, the generator included, µs.
    pub(crate) fn machine_us(&self, idle: &Spent, flows: u64) -> f64 {
        self.net(idle, |spent| spent.busy) * 1e6 / flows as f64
    }

    /// Bytes between the two, both ways, headers of the link included.
    pub(crate) fn bytes(&self, idle: &Spent, flows: u64) -> f64 {
        self.net(idle, |spent| spent.wire) / flows as f64
    }

    /// The dearest threads of both daemons, µs for each of `flows`.
    pub(crate) fn threads(&self, flows: u64) -> String {
        let side = |threads: &Threads| {
            let mut all: Vec<(&String, f64)> =
                threads.0.iter().map(|(name, time)| (name, *time as f64 / 1e3 / flows as f64)).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let named = all.iter().take(4).map(|(name, time)| format!("{name} {time:.2}"));
            named.collect::<Vec<_>>().join(", ")
        };
        format!("sender: {}; receiver: {}", side(&self.sender), side(&self.receiver))
    }
}
