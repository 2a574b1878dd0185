//! Millions of packets per second, live: the kernel makes frames (`BPF_F_TEST_XDP_LIVE_FRAMES`) at the far end of
//! a veth, and they go through native XDP at the near end to a sink that counts them. One processor does it all,
//! the making included.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::Context;
use aya::programs::XdpMode;
use aya::programs::xdp::XdpLinkId;
use lockstep_cluster_tests::interrupt;
use lockstep_cluster_tests::ip::batch;

use super::bed::{Bed, CLIENT_PORT, INNER_PEER, OUTER_PEER};
use super::figures::Figures;
use super::instruments::Instruments;
use super::station::{Effort, context, label};
use crate::bpf::{self, Input};
use crate::interface::interface;
use crate::lockstep::{Family, Hook};
use crate::packet::{ACK, Flows, tcp};
use crate::plan::SOURCE;
use crate::processor;

/// A link of the baselines' own: what is attached to the others is measured.
const NEAR: &str = "live0";
const FAR: &str = "live1";

pub(crate) fn measure(
    bed: &Bed,
    families: &[Family],
    effort: &Effort,
    instruments: &mut Instruments,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    if effort.rows.as_ref().is_some_and(|part| !"live/xdp".contains(part)) {
        return Ok(());
    }
    println!("xdp: live");
    let peer = format!("link add {NEAR} type veth peer name {FAR} netns {}", bed.client.name());
    batch(bed.node.name(), &[peer, format!("link set {NEAR} up")])?;
    batch(bed.client.name(), &[format!("link set {FAR} up")])?;
    // Sending from an interface needs XDP at its other end, and making frames at one needs XDP on it: sinks do.
    bed.client.run(|| attach(instruments, "xdp_sink", FAR))?;
    let rows = [("live/xdp/drop", "xdp_sink"), ("live/xdp/floor", "xdp_floor4")];
    for (name, program) in rows {
        let link = bed.node.run(|| attach(instruments, program, NEAR))?;
        let flows = one();
        let frame = frame(bed, Family::V4);
        instruments.fill_table(Family::V4, &flows, &frame)?;
        for _ in 0..effort.rounds {
            interrupt::check()?;
            figures.rate(name, run(bed, FAR, instruments, Family::V4, &flows, &frame, effort)?, &[]);
        }
        instruments.xdp(program)?.detach(link).with_context(|| format!("{program} cannot be detached"))?;
    }
    bed.client.run(|| attach(instruments, "xdp_sink", OUTER_PEER))?;
    bed.server.run(|| attach(instruments, "xdp_sink", INNER_PEER))?;
    for family in families {
        let frame = frame(bed, *family);
        let name = format!("live/xdp/{}/established/flows={}", family.name(), label(1));
        for _ in 0..effort.rounds {
            interrupt::check()?;
            let rate = run(bed, OUTER_PEER, instruments, *family, &one(), &frame, effort)?;
            figures.rate(&name, rate, &["live/xdp/floor", "live/xdp/drop"]);
        }
    }
    Ok(())
}

const fn one() -> Flows {
    Flows { count: 1, varied: SOURCE, first_port: CLIENT_PORT, scattered: true }
}

fn frame(bed: &Bed, family: Family) -> Vec<u8> {
    let size = if family == Family::V6 { 80 } else { 64 };
    tcp(bed.client_end(family), bed.vip_end(family), ACK, size, CLIENT_PORT)
}

/// From the far end `device`, how many arrive at any sink, in millions per second.
fn run(
    bed: &Bed,
    device: &str,
    instruments: &Instruments,
    family: Family,
    flows: &Flows,
    frame: &[u8],
    effort: &Effort,
) -> anyhow::Result<f64> {
    let generator = instruments.of(Hook::Xdp, "generate", family)?;
    bed.client.run(|| {
        processor::stay_on(processor::FIRST)?;
        instruments.plan(flows, frame)?;
        let (index, _) = interface(device)?;
        let before = instruments.arrived()?;
        let begin = Instant::now();
        generate(generator, index, frame, effort.repeat)?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok((instruments.arrived()? - before) as f64 / seconds / 1e6)
    })
}

fn generate(program: BorrowedFd<'_>, ifindex: u32, frame: &[u8], repeat: u32) -> anyhow::Result<()> {
    let context = context(Hook::Xdp, ifindex, frame.len());
    bpf::run_live(program, Input { frame, context: &context, repeat }).context("frames cannot be made")
}

/// The program keeps the link until it is detached or the namespace goes.
fn attach(instruments: &mut Instruments, program: &str, device: &str) -> anyhow::Result<XdpLinkId> {
    let link = instruments.xdp(program)?.attach(device, XdpMode::Driver);
    link.with_context(|| format!("{program} cannot be attached to {device}"))
}
