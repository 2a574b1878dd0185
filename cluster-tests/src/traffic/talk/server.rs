//! The server of conversations: TCP and UDP on some ports of both families.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::{HELLO, Hello};
use crate::namespace::Handle;

const TICK: Duration = Duration::from_millis(50);
const BUFFER: usize = 128 * 1024;

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Server {
    /// Listens on `ports` of every address in `namespace`, and says that it is `number`.
    pub fn start(namespace: &Handle, number: u64, ports: &[u16]) -> anyhow::Result<Self> {
        let mut server = Server { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
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
            Ok((listener, datagrams))
        })?;
        let stop = Arc::clone(&self.stop);
        self.threads
            .push(namespace.spawn(&format!("tcp-{number}"), move || accept(&listener, number, &stop))?);
        let stop = Arc::clone(&self.stop);
        self.threads
            .push(namespace.spawn(&format!("udp-{number}"), move || answer(&datagrams, number, &stop))?);
        Ok(())
    }

    /// Stops it and says what went wrong, if anything.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().map_err(|_| anyhow!("a server's thread panicked")).and_then(|r| r);
            result = result.and(ended);
        }
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("server: {error:#}");
        }
    }
}

fn hello(number: u64, peer: SocketAddr) -> [u8; HELLO] {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    Hello { server: number, peer }.encode()
}

fn accept(listener: &TcpListener, number: u64, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut threads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((socket, peer)) => {
                let stop = Arc::clone(stop);
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
fn serve(mut socket: TcpStream, peer: SocketAddr, number: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    if socket.write_all(&hello(number, peer)).is_err() {
        return Ok(());
    }
    let mut bytes = vec![0; BUFFER];
    while !stop.load(Ordering::Relaxed) {
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

fn answer(datagrams: &UdpSocket, number: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut bytes = vec![0; BUFFER];
    while !stop.load(Ordering::Relaxed) {
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
