//! One hook and family: the baselines, the established flow and the new one, over more and more flows.

mod there;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::{Context, ensure};
use lockstep_cluster_tests::{interrupt, wait};

use super::bed::{Bed, CLIENT_PORT};
use super::figures::Figures;
use super::instruments::{Instruments, key};
use super::subject::{Forwarded, Subject};
use crate::bpf::{Input, Ran};
use crate::lockstep::{Family, Hook};
use crate::packet::{ACK, End, Flows, SYN, tcp};
use crate::plan::{DESTINATION, SOURCE};

/// Frames: the smallest, and a full one of the usual MTU.
const SIZES: [(&str, usize); 2] = [("64B", 64), ("1500B", 1514)];
/// An IPv6 and TCP header alone fill more than 64 bytes; wrappers write so many.
const SMALLEST_V6: usize = 80;
/// New flows between two looks at the event ring, which holds about three times as many.
const CHUNK: u32 = 8192;
/// How often one flow is made anew in a measurement.
const AGAIN: u32 = 64 * CHUNK;
/// How often a measurement of the fast path is made again that other packets were part of.
const TRIES: usize = 3;
/// The ring counts as drained when nothing came for so long.
const QUIET: Duration = Duration::from_millis(20);

/// linux/bpf.h, linux/pkt_cls.h
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
const TC_ACT_OK: u32 = 0;
const TC_ACT_REDIRECT: u32 = 7;

/// How much is measured.
pub(crate) struct Effort {
    pub(crate) flows: &'static [u32],
    pub(crate) repeat: u32,
    pub(crate) rounds: usize,
    /// Of the largest tables' new flows, each of which fills and empties the table.
    pub(crate) rounds_of_new: usize,
    /// Only the rows of our own programs whose names contain this, and their baselines.
    pub(crate) rows: Option<String>,
}

impl Effort {
    pub(crate) fn whole() -> Self {
        Effort {
            flows: &[1, 1 << 14, 1 << 18, 1 << 20],
            repeat: 1_000_000,
            rounds: 11,
            rounds_of_new: 5,
            rows: None,
        }
    }

    pub(crate) fn quick() -> Self {
        Effort { flows: &[1, 1 << 14], repeat: 200_000, rounds: 3, rounds_of_new: 3, rows: None }
    }

    pub(crate) fn most_flows(&self) -> u32 {
        self.flows.iter().copied().max().unwrap_or(1)
    }
}

/// As in the rows' names.
pub(crate) fn label(flows: u32) -> String {
    match flows {
        f if f >= 1 << 20 => format!("{}M", f >> 20),
        f if f >= 1000 => format!("{}k", f / 1000),
        f => f.to_string(),
    }
}

/// Where measurements of one hook and family are made. The calling thread is in the bed's node, on one processor.
pub(crate) struct Station<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) hook: Hook,
    pub(crate) family: Family,
    pub(crate) subject: &'a Subject,
    pub(crate) instruments: &'a Instruments,
    pub(crate) effort: &'a Effort,
    pub(crate) figures: &'a mut Figures,
}

impl Station<'_> {
    pub(crate) fn measure(&mut self) -> anyhow::Result<()> {
        for flows in self.effort.flows {
            println!("{}/{}: {} flows", self.hook.name(), self.family.name(), label(*flows));
            self.established(*flows)?;
            self.new_flows(*flows)
                .with_context(|| format!("{} new flows at {}", label(*flows), self.hook.name()))?;
            self.flows_there(*flows)
                .with_context(|| format!("SYNs on {} flows at {}", label(*flows), self.hook.name()))?;
        }
        Ok(())
    }

    /// `hook/family/what/flows=N`
    fn name(&self, what: &str, flows: u32) -> String {
        format!("{}/{}/{what}/flows={}", self.hook.name(), self.family.name(), label(flows))
    }

    /// The rows of `what` that are asked for: name, and size of the frame.
    fn rows(&self, what: &str, flows: u32) -> Vec<(String, usize)> {
        SIZES
            .into_iter()
            .map(|(size_name, size)| (format!("{}/{size_name}", self.name(what, flows)), size))
            .filter(|(name, _)| self.effort.rows.as_ref().is_none_or(|part| name.contains(part)))
            .collect()
    }

    /// `hook/floor`, of the IPv4 key; that of IPv6 has its family behind it.
    fn floor_name(&self, family: Family) -> String {
        match family {
            Family::V4 => format!("{}/floor", self.hook.name()),
            Family::V6 => format!("{}/floor/v6", self.hook.name()),
        }
    }

    /// A bare lookup looks at no packet: it is the same at every hook.
    fn lookup_name(&self, flows: u32) -> String {
        format!("lookup/{}/flows={}", self.family.name(), label(flows))
    }

    fn frame(&self, flags: u8, size: usize) -> Vec<u8> {
        let size = if self.family == Family::V6 { size.max(SMALLEST_V6) } else { size };
        tcp(self.bed.client_end(self.family), self.bed.vip_end(self.family), flags, size, CLIENT_PORT)
    }

    fn flows(&self, count: u32) -> Flows {
        Flows { count, varied: SOURCE, first_port: CLIENT_PORT, scattered: true }
    }

    /// Baselines and the fast path, side by side in each round.
    fn established(&mut self, count: u32) -> anyhow::Result<()> {
        let rows = self.rows("established", count);
        if rows.is_empty() {
            return Ok(());
        }
        let flows = self.flows(count);
        let small = self.frame(ACK, SIZES[0].1);
        self.instruments.fill_table(self.family, &flows, &small)?;
        self.establish(count).context("flows cannot be established")?;
        for _ in 0..self.effort.rounds {
            interrupt::check()?;
            self.floors(&flows, &small)?;
            for (name, size) in &rows {
                let frame = self.frame(ACK, *size);
                let empty =
                    self.wrapped(self.instruments.empty(self.hook)?, &flows, &frame, self.nothing())?;
                let ns = self.fast(&flows, &frame)?;
                let (floor, same) = (self.floor_name(Family::V4), self.name("floor", count));
                let lookup = self.lookup_name(count);
                self.figures.cost(name, ns - empty, &[&floor, &lookup, &same]);
            }
        }
        Ok(())
    }

    /// The shipped program's fast path. Measured again if a link changed meanwhile: then every flow asks for its next
    /// hop once more.
    fn fast(&self, flows: &Flows, frame: &[u8]) -> anyhow::Result<f64> {
        let mut tries = 1..=TRIES;
        loop {
            let before = self.subject.forwarded()?;
            let ns = self.wrapped(self.subject.program(), flows, frame, self.sent())?;
            let all = self.all_forwarded(before, self.effort.repeat, true);
            if all.is_ok() || tries.next().is_none() {
                return all.map(|()| ns);
            }
        }
    }

    /// The empty program, the floor with one flow and over all of them, and a bare lookup over all of them.
    fn floors(&mut self, flows: &Flows, frame: &[u8]) -> anyhow::Result<()> {
        let nothing = self.instruments.empty(self.hook)?;
        let floor = self.instruments.of(self.hook, "floor", self.family)?;
        let hook = self.hook.name();

        let empty = self.plain(nothing, frame, self.nothing())?;
        self.figures.cost(&format!("{hook}/empty"), empty, &[]);
        if flows.count == 1 {
            let ns = self.plain(floor, frame, self.sent())?;
            self.figures.cost(&self.floor_name(self.family), ns - empty, &[]);
        }

        let empty = self.wrapped(nothing, flows, frame, self.nothing())?;
        self.figures.cost(&format!("{hook}/{}/wrapper", self.family.name()), empty, &[]);
        let ns = self.wrapped(floor, flows, frame, self.sent())?;
        let one = self.floor_name(Family::V4);
        self.figures.cost(&self.name("floor", flows.count), ns - empty, &[&one]);

        self.instruments.plan(flows, frame)?;
        let pick = self.plain(self.instruments.of(Hook::Xdp, "pick", self.family)?, frame, &[XDP_PASS])?;
        self.instruments.plan(flows, frame)?;
        let lookup = self.instruments.of(Hook::Xdp, "lookup", self.family)?;
        let ns = self.plain(lookup, frame, &[XDP_PASS])?;
        self.figures.cost(&self.lookup_name(flows.count), ns - pick, &[]);
        Ok(())
    }

    /// SYNs of distinct clients into an empty table: both directions inserted, the event emitted. One flow is made again and
    /// again, by a wrapper that removes it first; what the removal costs is measured by itself and subtracted.
    fn new_flows(&mut self, count: u32) -> anyhow::Result<()> {
        let subject = self.subject;
        let one = count == 1;
        let (wrapper, made) = if one { ("again", AGAIN) } else { ("wrap", count) };
        let flows = self.flows(count);
        let rounds = if one { self.effort.rounds } else { self.effort.rounds_of_new };
        for (name, size) in self.rows("new", count) {
            let frame = self.frame(SYN, size);
            let lost = subject.lost()?;
            for _ in 0..rounds {
                subject.forget_flows()?;
                self.instruments.forget(&self.keys(&flows, 0))?;
                let empty = self.instruments.empty(self.hook)?;
                let empty = self.behind(wrapper, empty, &flows, &frame, self.nothing())?;
                let family = self.family.name();
                let mut removal = 0.0;
                // The same at every hook.
                let (insert, ns) = if one {
                    removal = self.removals(&flows, &frame)?;
                    self.figures.cost(&format!("remove/{family}"), removal, &[]);
                    (format!("insert/{family}"), self.insertions(&flows, &frame)? - removal)
                } else {
                    (format!("insert/{family}/flows={}", label(count)), self.filling(&flows, &frame)?)
                };
                self.figures.cost(&insert, ns, &[]);
                let floors = [self.floor_name(Family::V4), insert];
                let before = subject.created()?;
                let ns = self.make_so_many(made, wrapper, &flows, &frame, true)? / f64::from(made);
                let created = subject.created()? - before;
                ensure!(created == u64::from(made), "{made} SYNs made {created} flows");
                self.figures.cost(&name, ns - empty - removal, &floors.each_ref().map(String::as_str));
            }
            let lost = subject.lost()? - lost;
            if lost > 0 {
                self.figures.note(&name, format!("{lost} events lost"));
            }
        }
        subject.forget_flows()
    }

    /// Two bare insertions of entries as large as a flow's, which are removed each time; with the removals.
    fn insertions(&self, flows: &Flows, frame: &[u8]) -> anyhow::Result<f64> {
        let [full, empty] = self.behind_removals("again", flows, frame, |ran, _| f64::from(ran.ns))?;
        Ok(full - empty)
    }

    /// Two removals of entries that are there: what they take longer than two of entries that are not, by the clock.
    fn removals(&self, flows: &Flows, frame: &[u8]) -> anyhow::Result<f64> {
        let repeat = f64::from(self.effort.repeat);
        let [full, empty] = self.behind_removals("timed", flows, frame, |_, ns| ns as f64 / repeat)?;
        Ok(full - empty)
    }

    /// Runs a wrapper that removes two entries, in front of a program that inserts them again and of one that does nothing.
    /// `figure` gets each run, and how long its removals took if the wrapper notes that.
    fn behind_removals(
        &self,
        wrapper: &str,
        flows: &Flows,
        frame: &[u8],
        figure: impl Fn(&Ran, u64) -> f64,
    ) -> anyhow::Result<[f64; 2]> {
        let wrapper = self.instruments.of(Hook::Xdp, wrapper, self.family)?;
        let run = |target| {
            self.instruments.aim(Hook::Xdp, target)?;
            self.instruments.plan(flows, frame)?;
            let context = context(Hook::Xdp, self.bed.outer_index, frame.len());
            let input = Input { frame, context: &context, repeat: self.effort.repeat };
            let before = self.instruments.removal_ns()?;
            let ran = Instruments::run(wrapper, input, &[XDP_PASS])?;
            Ok::<_, anyhow::Error>(figure(&ran, self.instruments.removal_ns()? - before))
        };
        let full = run(self.instruments.of(Hook::Xdp, "insert", self.family)?)?;
        // What the last repeat has inserted is removed by the first of these.
        Ok([full, run(self.instruments.empty(Hook::Xdp)?)?])
    }

    /// Two bare insertions for each of so many flows into an empty table, which is empty again afterwards.
    fn filling(&self, flows: &Flows, frame: &[u8]) -> anyhow::Result<f64> {
        let run = |what| {
            self.instruments.plan(flows, frame)?;
            let program = self.instruments.of(Hook::Xdp, what, self.family)?;
            let input = Input { frame, context: &[], repeat: flows.count };
            Ok::<_, anyhow::Error>(f64::from(Instruments::run(program, input, &[XDP_PASS])?.ns))
        };
        let ns = run("fill")? - run("pick")?;
        self.subject.forget_flows()?;
        Ok(ns)
    }

    /// The keys of both entries of flow `i`.
    fn keys(&self, flows: &Flows, i: u32) -> [Vec<u8>; 2] {
        let (asks, answers) = (self.frame(SYN, SIZES[0].1), self.answer(SYN | ACK));
        let replies = Flows { varied: DESTINATION, ..*flows };
        [key(self.family, flows, &asks, i), key(self.family, &replies, &answers, i)]
    }

    /// An endpoint's answer to the first client, with these flags.
    fn answer(&self, flags: u8) -> Vec<u8> {
        let to: End = self.bed.client_from_inside(self.family);
        let size = if self.family == Family::V6 { SMALLEST_V6 } else { SIZES[0].1 };
        tcp(self.bed.endpoint_end(self.family), to, flags, size, CLIENT_PORT)
    }

    /// Every flow once; the time of all, in ns.
    fn make(&self, flows: &Flows, frame: &[u8], wait: bool) -> anyhow::Result<f64> {
        self.make_so_many(flows.count, "wrap", flows, frame, wait)
    }

    /// So many packets, in chunks that the event ring holds; the time of all, in ns.
    fn make_so_many(
        &self,
        count: u32,
        wrapper: &str,
        flows: &Flows,
        frame: &[u8],
        wait: bool,
    ) -> anyhow::Result<f64> {
        let subject = self.subject;
        self.instruments.aim(self.hook, subject.program())?;
        self.instruments.plan(flows, frame)?;
        let wrapper = self.instruments.of(self.hook, wrapper, self.family)?;
        let index = if flows.varied == SOURCE { self.bed.outer_index } else { self.bed.inner_index };
        let context = context(self.hook, index, frame.len());
        let (mut total, mut left) = (0.0, count);
        while left > 0 {
            let repeat = left.min(CHUNK);
            let (drained, lost) = (subject.drained(), if wait { subject.lost()? } else { 0 });
            let before = subject.forwarded()?;
            let input = Input { frame, context: &context, repeat };
            let ran = Instruments::run(wrapper, input, self.sent())?;
            self.all_forwarded(before, repeat, false)?;
            total += f64::from(ran.ns) * f64::from(repeat);
            left -= repeat;
            if wait {
                subject.wait_drained(drained, u64::from(repeat), lost)?;
            }
        }
        Ok(total)
    }

    /// Real handshakes, all of a step before the next.
    fn establish(&self, count: u32) -> anyhow::Result<()> {
        let subject = self.subject;
        subject.forget_flows()?;
        let in_order = Flows { scattered: false, ..self.flows(count) };
        self.make(&in_order, &self.frame(SYN, SIZES[0].1), false).context("SYN")?;
        let answer = self.answer(SYN | ACK);
        let answers = Flows { varied: DESTINATION, ..in_order };
        self.make(&answers, &answer, false).context("SYN-ACK")?;
        let ack = self.frame(ACK, SIZES[0].1);
        self.make(&in_order, &ack, false).context("ACK")?;
        let mut last = subject.drained();
        wait::until("the event ring to be drained", Duration::from_secs(20), || {
            wait::pass(QUIET)?;
            let now = subject.drained();
            Ok((std::mem::replace(&mut last, now) == now).then_some(()))
        })?;
        // Only now the original's packets find everything as the fast path needs it.
        self.make(&in_order, &ack, false).map(drop)
    }

    /// Every packet, and by the fast path if `fast`; or what was measured was something else.
    fn all_forwarded(&self, before: Forwarded, repeat: u32, fast: bool) -> anyhow::Result<()> {
        let now = self.subject.forwarded()?;
        let (by_fast, by_slow) = (now.fast - before.fast, now.slow - before.slow);
        let counted = if fast { by_fast } else { by_fast + by_slow };
        ensure!(
            counted == u64::from(repeat),
            "of {repeat} packets the fast path forwarded {by_fast} and the slow path {by_slow}; the counters: {:?}",
            self.subject.counters()?.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        );
        Ok(())
    }

    /// A program by itself.
    fn plain(&self, program: BorrowedFd<'_>, frame: &[u8], wanted: &[u32]) -> anyhow::Result<f64> {
        let input = Input { frame, context: &[], repeat: self.effort.repeat };
        Ok(f64::from(Instruments::run(program, input, wanted)?.ns))
    }

    /// A program behind the wrapper that restores the packet.
    fn wrapped(
        &self,
        program: BorrowedFd<'_>,
        flows: &Flows,
        frame: &[u8],
        wanted: &[u32],
    ) -> anyhow::Result<f64> {
        self.behind("wrap", program, flows, frame, wanted)
    }

    /// A program behind a wrapper.
    fn behind(
        &self,
        wrapper: &str,
        program: BorrowedFd<'_>,
        flows: &Flows,
        frame: &[u8],
        wanted: &[u32],
    ) -> anyhow::Result<f64> {
        self.instruments.aim(self.hook, program)?;
        self.instruments.plan(flows, frame)?;
        let wrapper = self.instruments.of(self.hook, wrapper, self.family)?;
        let context = context(self.hook, self.bed.outer_index, frame.len());
        let input = Input { frame, context: &context, repeat: self.effort.repeat };
        Ok(f64::from(Instruments::run(wrapper, input, wanted)?.ns))
    }

    const fn nothing(&self) -> &'static [u32] {
        match self.hook {
            Hook::Xdp => &[XDP_PASS],
            Hook::Tc => &[TC_ACT_OK],
        }
    }

    const fn sent(&self) -> &'static [u32] {
        match self.hook {
            Hook::Xdp => &[XDP_TX, XDP_REDIRECT],
            Hook::Tc => &[TC_ACT_REDIRECT],
        }
    }
}

/// A `struct xdp_md`, or the beginning of a `struct __sk_buff`, of a packet that came in at an interface.
pub(crate) fn context(hook: Hook, ifindex: u32, length: usize) -> Vec<u8> {
    match hook {
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        Hook::Xdp => {
            [0, length as u32, 0, ifindex, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
        }
        // ifindex is the eleventh word.
        Hook::Tc => [0; 10].into_iter().chain([ifindex]).flat_map(|word: u32| word.to_ne_bytes()).collect(),
    }
}
