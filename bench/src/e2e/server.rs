//! The server: nginx with one file of 128 bytes, a sink for streams and one for datagrams.

use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use lockstep_cluster_tests::process::Process;
use lockstep_cluster_tests::run::Run;
use lockstep_cluster_tests::wait;

use super::network::Network;
use super::nginx;
use super::subject::Subject;
use super::udp;
use crate::socket;

/// nginx's port, and that of the VIPs before it.
pub(crate) const HTTP: u16 = 8080;
/// The stream sink's.
pub(crate) const STREAM: u16 = 5001;
/// The datagram sink's.
pub(crate) const DATAGRAMS: u16 = 5002;
/// How long the slowest of it may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the sinks look whether to stop.
const LOOK: Duration = Duration::from_millis(100);
const BUFFER: usize = 1 << 20;

/// All of it, running.
pub(crate) struct Server {
    nginx: Process,
    stop: Arc<AtomicBool>,
    sinks: Vec<JoinHandle<anyhow::Result<()>>>,
    /// Bytes that streams brought.
    pub(crate) bytes: Arc<AtomicU64>,
    /// Datagrams that arrived.
    pub(crate) datagrams: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn start(run: &Run, network: &Network) -> anyhow::Result<Self> {
        let mut server = Server {
            nginx: nginx::start(&run.folder(), &network.server, HTTP)?,
            stop: Arc::default(),
            sinks: Vec::new(),
            bytes: Arc::default(),
            datagrams: Arc::default(),
        };
        let (stop, bytes) = (Arc::clone(&server.stop), Arc::clone(&server.bytes));
        server.sinks.push(network.server.spawn("stream-sink", move || streams(&stop, &bytes))?);
        let (stop, count) = (Arc::clone(&server.stop), Arc::clone(&server.datagrams));
        server
            .sinks
            .push(network.server.spawn("datagram-sink", move || udp::sink(DATAGRAMS, &stop, &count))?);
        Ok(server)
    }

    /// Waits until the client is answered through `subject` on every TCP port.
    pub(crate) fn answers_through(&self, network: &Network, subject: Subject) -> anyhow::Result<()> {
        network.client.run(|| {
            for port in [HTTP, STREAM] {
                let to = SocketAddrV4::new(subject.target(), port);
                let what = format!("an answer from {to} through {}", subject.name());
                wait::until_ok(&what, PATIENCE, || {
                    TcpStream::connect_timeout(&to.into(), Duration::from_secs(1)).context("cannot connect")
                })?;
            }
            Ok(())
        })
    }

    /// Ends it and says what went wrong, if anything.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.nginx.running()?,
            "nginx {}: {}",
            self.nginx.describe_end(),
            self.nginx.tail(20)
        );
        // By a signal that lets it wait for its workers.
        self.nginx.terminate(PATIENCE)?;
        self.stop.store(true, Ordering::Relaxed);
        for sink in self.sinks.drain(..) {
            sink.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Takes one stream at a time and throws its bytes away.
fn streams(stop: &AtomicBool, bytes: &AtomicU64) -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind(("0.0.0.0", STREAM)).context("cannot listen")?;
    let mut buffer = vec![0; BUFFER];
    while !stop.load(Ordering::Relaxed) {
        if !socket::readable(listener.as_raw_fd(), LOOK)? {
            continue;
        }
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        stream.set_read_timeout(Some(LOOK)).context("cannot set a timeout")?;
        while !stop.load(Ordering::Relaxed) {
            match std::io::Read::read(&mut stream, &mut buffer) {
                Ok(0) => break,
                Ok(n) => drop(bytes.fetch_add(n as u64, Ordering::Relaxed)),
                Err(error) if socket::is_timeout(&error) => {}
                // The proxy's way to end what the client ended.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error).context("cannot read a stream"),
            }
        }
    }
    Ok(())
}
