//! An endpoint: a TCP and a UDP server on one thread that check what they receive and say who they are.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::reactor::Reactor;
use super::tcp::{Conversation, End};
use super::udp::{LENGTH, Message};
use super::udp_client::is_network_error;
use crate::namespace::Handle;
use crate::workers::{Stop, Workers};

/// Port of the endpoints' TCP server.
pub const TCP_PORT: u16 = 8443;
/// Port of the endpoints' UDP server.
pub const UDP_PORT: u16 = 5353;

const LISTENER: usize = 0;
const DATAGRAMS: usize = 1;
const FIRST_CONNECTION: usize = 2;
/// Connections an endpoint serves; more are refused by closing them.
const MAX_CONNECTIONS: usize = 20_000;
const BACKLOG: i32 = 4096;
const TICK: Duration = Duration::from_millis(50);

/// What endpoints counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections with a byte that was not the predicted one.
    pub corrupted: AtomicU64,
    /// Connections reset under way.
    pub reset: AtomicU64,
    /// Datagrams that were not as predicted.
    pub bad_datagrams: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
}

/// A running endpoint; stopped when dropped.
#[derive(Debug)]
pub struct Endpoint {
    workers: Workers<()>,
}

impl Endpoint {
    /// Starts it; it listens when this returns.
    pub fn start(
        namespace: &Handle,
        address: Ipv4Addr,
        number: u64,
        counts: Arc<Counts>,
    ) -> anyhow::Result<Self> {
        let (listener, datagrams) = namespace.run(|| {
            let listener = listen(SocketAddr::from((address, TCP_PORT)))?;
            let datagrams = UdpSocket::bind((address, UDP_PORT)).context("cannot bind the UDP service")?;
            datagrams.set_nonblocking(true)?;
            Ok((listener, datagrams))
        })?;
        let mut workers = Workers::new("endpoint");
        workers.spawn_in(namespace, &format!("endpoint-{number}"), move |stop| {
            Server::new(listener, datagrams, number, counts)?.run(stop)
        })?;
        Ok(Endpoint { workers })
    }

    /// Answers before anything else runs: see [`Workers::hurry`].
    pub fn hurry(&self) -> anyhow::Result<()> {
        self.workers.hurry()
    }

    /// Stops it and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<()> {
        self.workers.stop().map(drop)
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot bind {address}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

struct Server {
    reactor: Reactor,
    listener: TcpListener,
    datagrams: UdpSocket,
    number: u64,
    counts: Arc<Counts>,
    connections: Vec<Option<Conversation>>,
}

impl Server {
    fn new(
        listener: TcpListener,
        datagrams: UdpSocket,
        number: u64,
        counts: Arc<Counts>,
    ) -> anyhow::Result<Self> {
        let reactor = Reactor::new(TICK)?;
        reactor.watch_input(&listener, LISTENER)?;
        reactor.watch_input(&datagrams, DATAGRAMS)?;
        Ok(Server { reactor, listener, datagrams, number, counts, connections: Vec::new() })
    }

    fn run(&mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.requested() {
            let turn = self.reactor.turn()?;
            for token in turn.tokens() {
                match token {
                    LISTENER => self.accept()?,
                    DATAGRAMS => self.answer()?,
                    _ => self.serve(token - FIRST_CONNECTION),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client was quicker to go than we to accept.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("cannot accept"),
            };
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            if self.connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let index = self.connections.len();
            self.reactor.watch(&socket, index + FIRST_CONNECTION)?;
            self.connections.push(Some(Conversation::endpoint(socket, self.number)));
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        connection.advance();
        let Some(end) = connection.end() else { return };
        match end {
            End::Corrupted => _ = self.counts.corrupted.fetch_add(1, Ordering::Relaxed),
            End::Reset => _ = self.counts.reset.fetch_add(1, Ordering::Relaxed),
            End::Closed => {}
        }
        self.connections[index] = None;
    }

    fn answer(&self) -> anyhow::Result<()> {
        let mut bytes = [0; LENGTH + 1];
        loop {
            let (length, from) = match self.datagrams.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // For an earlier answer.
                Err(error) if is_network_error(error.kind()) => continue,
                Err(error) => return Err(error).context("cannot receive"),
            };
            match Message::decode(&bytes[..length]) {
                Some(Message::Request { key, number }) => {
                    let reply = Message::Reply { key, number, endpoint: self.number };
                    // A full send buffer or no route loses the datagram, as networks do.
                    drop(self.datagrams.send_to(&reply.encode(), from));
                }
                Some(Message::Silent) => {}
                Some(Message::Reply { .. }) | None => {
                    self.counts.bad_datagrams.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
