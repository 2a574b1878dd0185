//! What is measured.

use std::io::Write;
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use lockstep_cluster_tests::run::Run;
use lockstep_cluster_tests::wait;

use super::network::Network;
use super::server::{DATAGRAMS, HTTP, STREAM, Server};
use super::subject::Subject;
use super::{udp, wrk};

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// A connection for each request.
    Close,
    /// Many requests on each connection.
    Keepalive,
    /// One stream from the client to the server.
    Tcp,
    /// Datagrams of 64-byte frames, as received.
    Udp,
}

/// One measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) note: Option<String>,
}

/// Until slow start and the first resolution of neighbours are over.
const WARM_UP: Duration = Duration::from_millis(300);
const CHUNK: usize = 128 << 10;

impl Case {
    pub(crate) const ALL: [Case; 4] = [Case::Close, Case::Keepalive, Case::Tcp, Case::Udp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Case::Close => "close",
            Case::Keepalive => "keepalive",
            Case::Tcp => "tcp",
            Case::Udp => "udp",
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Case::Close | Case::Keepalive => "req/s",
            Case::Tcp => "Gbit/s",
            Case::Udp => "pps",
        }
    }

    pub(crate) fn measure(
        self,
        network: &Network,
        server: &Server,
        subject: Subject,
        length: Duration,
        run: &Run,
    ) -> anyhow::Result<Measured> {
        let target = |port| SocketAddrV4::new(subject.target(), port);
        let rate = match self {
            Case::Close => return wrk::measure(&network.client, target(HTTP), length, true, run),
            Case::Keepalive => return wrk::measure(&network.client, target(HTTP), length, false, run),
            Case::Tcp => {
                let to = target(STREAM);
                8e-9 * counted(network, &server.bytes, length, move |stop| stream(to, stop))?
            }
            Case::Udp => {
                let to = target(DATAGRAMS);
                counted(network, &server.datagrams, length, move |stop| udp::send(to, stop))?
            }
        };
        ensure!(rate > 0.0, "nothing arrived through {} ({})", subject.name(), self.name());
        Ok(Measured { rate, note: None })
    }
}

/// How fast `counter` rises while `load` runs on a thread of the client's.
fn counted(
    network: &Network,
    counter: &AtomicU64,
    length: Duration,
    load: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let thread = network.client.spawn("load", move || load(&told))?;
    let watched = (|| {
        wait::pass(WARM_UP)?;
        let (begin, before) = (Instant::now(), counter.load(Ordering::Relaxed));
        wait::pass(length)?;
        let (time, after) = (begin.elapsed(), counter.load(Ordering::Relaxed));
        Ok((after - before) as f64 / time.as_secs_f64())
    })();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    watched
}

fn stream(to: SocketAddrV4, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    // A stalled path must not hold the thread for ever.
    stream.set_write_timeout(Some(Duration::from_secs(5))).context("cannot set a timeout")?;
    let chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&chunk).context("cannot write to the stream")?;
    }
    Ok(())
}
