//! The server of conversations: TCP and UDP on some ports of both families.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::{HELLO, Hello};
use crate::namespace::Handle;
use crate::workers::{Stop, Workers};

const TICK: Duration = Duration::from_millis(50);
const BUFFER: usize = 128 * 1024;
/// Not overrun while the server is not scheduled for a while: clients count what is lost on the way.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    workers: Workers<()>,
}

impl Server {
    /// Listens on `ports` of every address in `namespace`, and says that it is `number`.
    pub fn start(namespace: &Handle, number: u64, ports: &[u16]) -> anyhow::Result<Self> {
        let mut server = Server { workers: Workers::new("server") };
        for &port in ports {
            server.add(namespace, number, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        }
        Ok(server)
    }

    /// Listens on one address more.
    pub fn add(&mut self, namespace: &Handle, number: u64, address: SocketAddr) -> anyhow::Result<()> {
        let (listener, datagrams) = namespace.run(|| {
            let listener = TcpListener::bind(address).with_context(|| format!("cannot bind {address}"))?;
            listener.set_nonblocking(true)?;
            let datagrams = UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))?;
            datagrams.set_read_timeout(Some(TICK))?;
            setsockopt(&datagrams, RcvBufForce, &RECEIVE_BUFFER).context("cannot set a receive buffer")?;
            Ok((listener, datagrams))
        })?;
        self.workers
            .spawn_in(namespace, &format!("tcp-{number}"), move |stop| accept(&listener, number, stop))?;
        self.workers
            .spawn_in(namespace, &format!("udp-{number}"), move |stop| answer(&datagrams, number, stop))
    }

    /// Stops it and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<()> {
        self.workers.stop().map(drop)
    }
}

fn hello(number: u64, peer: SocketAddr) -> [u8; HELLO] {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    Hello { server: number, peer }.encode()
}

fn accept(listener: &TcpListener, number: u64, stop: &Stop) -> anyhow::Result<()> {
    let mut threads = Vec::new();
    while !stop.requested() {
        match listener.accept() {
            Ok((socket, peer)) => {
                let stop = stop.clone();
                threads.push(std::thread::spawn(move || serve(socket, peer, number, &stop)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_readable(listener)?,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a connection's thread panicked"))??;
    }
    Ok(())
}

fn wait_readable(listener: &TcpListener) -> anyhow::Result<()> {
    use std::os::fd::AsFd;
    let mut fds = [nix::poll::PollFd::new(listener.as_fd(), nix::poll::PollFlags::POLLIN)];
    match nix::poll::poll(&mut fds, TICK.as_millis() as u16) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for a connection"),
    }
}

/// Until the client closes. How a connection ends is the client's to judge.
fn serve(mut socket: TcpStream, peer: SocketAddr, number: u64, stop: &Stop) -> anyhow::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    if socket.write_all(&hello(number, peer)).is_err() {
        return Ok(());
    }
    let mut bytes = vec![0; BUFFER];
    while !stop.requested() {
        match socket.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(got) => {
                if socket.write_all(&bytes[..got]).is_err() {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn answer(datagrams: &UdpSocket, number: u64, stop: &Stop) -> anyhow::Result<()> {
    let mut bytes = vec![0; BUFFER];
    while !stop.requested() {
        match datagrams.recv_from(&mut bytes) {
            Ok((got, peer)) => {
                let mut reply = hello(number, peer).to_vec();
                reply.extend(&bytes[..got]);
                // A full send buffer or no route loses the datagram, as networks do: the client misses it.
                drop(datagrams.send_to(&reply, peer));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
    Ok(())
}
