//! A node alone: nobody can take its groups over, so it keeps serving while its daemon is away, replaced, or dead.
//! No datagram is lost, at any hook, nor when the hook changes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};

use super::kernel::{Others, Ours};
use super::{End, end, start};
use crate::api;
use crate::cluster::Cluster;
use crate::other_build;
use crate::scenarios::modes::{intent, with_hooks};
use crate::scenarios::traffic::{MEANWHILE, Traffic};
use crate::topology::Node;
use crate::traffic::counted::Counted;

const NODE: Node = Node::A;

/// One restart.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The hook on both sides afterwards.
    hook: &'static str,
    /// How the daemon ends.
    end: End,
    /// Whether one whose programs are others is started then.
    other: bool,
}

const fn step(hook: &'static str, end: End, other: bool) -> Step {
    Step { hook, end, other }
}

const STEPS: [Step; 12] = [
    step("tc", End::Term, false),
    step("tc", End::Kill, false),
    step("tc", End::Term, true),
    step("tc", End::Kill, false),
    // XDP comes, in the stack.
    step("xdp-generic", End::Term, false),
    step("xdp-generic", End::Kill, false),
    step("xdp-generic", End::Term, true),
    // It moves to the driver, with other programs again.
    step("xdp", End::Kill, false),
    step("xdp", End::Term, true),
    step("xdp", End::Kill, false),
    step("xdp", End::Term, false),
    // And it goes.
    step("tc", End::Kill, true),
];

pub(in crate::scenarios) fn run() -> anyhow::Result<()> {
    let others = Others::look()?;
    let mut cluster = Cluster::start_alone(&intent::manifest(), |file| with_hooks(file, "tc", "tc"))?;
    check(&mut cluster, &others).map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster, others: &Others) -> anyhow::Result<()> {
    let other = other_build::lockstepd(&cluster.run.folder())?;
    let mut traffic = Traffic::start(cluster, false)?;
    let mut loaded = Loaded { others, now: others.ours()?, other: false, counts: BTreeMap::new() };
    loaded.counts.insert("tc", loaded.now.counts());
    for (number, step) in (1..).zip(STEPS) {
        restart(cluster, &mut traffic, &mut loaded, &other, step)
            .with_context(|| format!("step {number}, {step:?}"))?;
    }
    traffic.stop()
}

fn restart(
    cluster: &mut Cluster,
    traffic: &mut Traffic,
    loaded: &mut Loaded<'_>,
    other: &Path,
    step: Step,
) -> anyhow::Result<()> {
    let tally = traffic.count(|counted| {
        end(cluster, NODE, step.end)?;
        counted.answered(MEANWHILE).context("while no daemon ran")?;
        cluster.use_program(step.other.then(|| other.to_owned()));
        cluster.configure(NODE, |file| with_hooks(file, step.hook, step.hook))?;
        start(cluster, NODE)?;
        at_its_hook(cluster, counted)
    })?;
    println!("{step:?}: {} datagrams sent, {} lost", tally.sent, tally.lost);
    tally.demand_all()?;
    loaded.replaced(step)
}

/// Where XDP is, it does the work, once the daemon has told it the next hops again.
fn at_its_hook(cluster: &Cluster, counted: &Counted) -> anyhow::Result<()> {
    let passed = || api::counter(cluster.topology.node(NODE), "xdp_passed");
    let before = passed()?;
    counted.answered(MEANWHILE)?;
    let passed = passed()? - before;
    ensure!(passed < MEANWHILE / 2, "XDP left {passed} packets of {MEANWHILE} datagrams and more to tc");
    Ok(())
}

/// What the daemons have loaded.
struct Loaded<'a> {
    others: &'a Others,
    now: Ours,
    /// Whether it is the other build's.
    other: bool,
    /// How much of each kind there is at each hook.
    counts: BTreeMap<&'static str, [usize; 3]>,
}

impl Loaded<'_> {
    /// Nothing of the former daemon's programs is left, the maps are the same ones, and so are the links, unless their
    /// hook has changed.
    fn replaced(&mut self, step: Step) -> anyhow::Result<()> {
        let now = self.others.after(&self.now)?;
        let (former, tags) = (self.now.tags(), now.tags());
        if step.other == self.other {
            let known = former.is_subset(&tags) || tags.is_subset(&former);
            ensure!(known, "the same build's programs have other tags");
        } else {
            let same = former.intersection(&tags).count();
            ensure!(same == 0, "{same} of {} programs are the other build's", tags.len());
        }
        let counts = *self.counts.entry(step.hook).or_insert(now.counts());
        ensure!(now.counts() == counts, "{:?} programs, maps and links, once {counts:?}", now.counts());
        let kept = self.now.links.intersection(&now.links).count();
        ensure!(kept >= 2, "of links {:?} only {kept} were kept: now {:?}", self.now.links, now.links);
        self.now = now;
        self.other = step.other;
        Ok(())
    }
}
