//! Conversations one at a time, over either family, for tests that ask *how* a packet arrived: the server says
//! who it is and whom it sees, and sends back every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::pattern::{Direction, Pattern};
use crate::namespace::Handle;

pub mod held;
pub mod server;

/// What a server says first.
pub(super) const HELLO: usize = 80;
/// How long an answer may take: several retransmissions.
const ANSWER: Duration = Duration::from_secs(4);
/// How long one may take before a patient client asks again.
const AGAIN: Duration = Duration::from_millis(100);
/// A TCP exchange's part that is written before anything is read.
const CHUNK: usize = 16 * 1024;

/// Who answered, and whom it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The server's number.
    pub server: u64,
    /// The address it sees as the client's.
    pub peer: SocketAddr,
}

impl Hello {
    fn encode(self) -> [u8; HELLO] {
        let text = self.to_string();
        let mut bytes = [b' '; HELLO];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        std::str::from_utf8(bytes).context("a server's first words are no text")?.parse()
    }
}

impl std::fmt::Display for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.server, self.peer)
    }
}

impl std::str::FromStr for Hello {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (server, peer) = text.trim_end().split_once(' ').context("a server's first words are too few")?;
        Ok(Hello { server: server.parse()?, peer: peer.parse()? })
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct Talk {
    socket: TcpStream,
    pattern: Pattern,
    position: u64,
    /// The local address.
    pub local: SocketAddr,
    /// What the server said.
    pub hello: Hello,
}

impl Talk {
    /// Connects from `from` (port 0: any) and hears who answers.
    pub fn connect(namespace: &Handle, from: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        namespace.run(|| Self::connect_here(from, to)).with_context(|| format!("TCP from {from} to {to}"))
    }

    fn connect_here(from: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into()).context("cannot bind")?;
        socket.connect_timeout(&to.into(), ANSWER).context("cannot connect")?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.set_write_timeout(Some(ANSWER))?;
        let mut bytes = [0; HELLO];
        socket.read_exact(&mut bytes).context("no first words")?;
        let local = socket.local_addr()?;
        let key = u64::from(local.port()) << 16 | u64::from(to.port());
        Ok(Talk {
            socket,
            pattern: Pattern::new(key, Direction::Up),
            position: 0,
            local,
            hello: Hello::decode(&bytes)?,
        })
    }

    /// Sends `length` bytes more and demands them back.
    pub fn exchange(&mut self, length: usize) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            let now = left.min(CHUNK);
            let mut sent = vec![0; now];
            self.pattern.fill(self.position, &mut sent);
            self.socket.write_all(&sent).context("cannot send")?;
            let mut received = vec![0; now];
            self.socket.read_exact(&mut received).context("not everything came back")?;
            ensure!(self.pattern.matches(self.position, &received), "wrong bytes after {}", self.position);
            self.position += now as u64;
            left -= now;
        }
        Ok(())
    }

    /// Sends `length` bytes at full speed while reading them back.
    pub fn stream(&mut self, length: u64) -> anyhow::Result<()> {
        let (pattern, from) = (self.pattern, self.position);
        let mut writer = self.socket.try_clone()?;
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || -> anyhow::Result<()> {
                let mut bytes = vec![0; 256 * 1024];
                let mut at = 0;
                while at < length {
                    let now = bytes.len().min((length - at) as usize);
                    pattern.fill(from + at, &mut bytes[..now]);
                    writer.write_all(&bytes[..now]).context("cannot send")?;
                    at += now as u64;
                }
                Ok(())
            });
            let mut bytes = vec![0; 256 * 1024];
            let mut at = 0;
            while at < length {
                let now = bytes.len().min((length - at) as usize);
                let got = self.socket.read(&mut bytes[..now]).context("the stream stopped")?;
                ensure!(got > 0, "the stream ended after {at} bytes");
                ensure!(pattern.matches(from + at, &bytes[..got]), "wrong bytes after {at}");
                at += got as u64;
            }
            sending.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?
        })?;
        self.position += length;
        Ok(())
    }
}

/// UDP from one port.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    number: u64,
    /// The local address.
    pub local: SocketAddr,
}

impl Datagrams {
    /// A socket that talks to `to` only.
    pub fn open(namespace: &Handle, from: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = namespace.run(|| {
            let socket = UdpSocket::bind(from).with_context(|| format!("cannot bind {from}"))?;
            socket.connect(to).with_context(|| format!("cannot reach {to}"))?;
            socket.set_read_timeout(Some(ANSWER))?;
            Ok(socket)
        })?;
        let local = socket.local_addr()?;
        Ok(Datagrams { socket, number: 0, local })
    }

    /// As [`Datagrams::exchange`], sending again what was lost on the way, as a client does that must.
    pub fn exchange_patiently(&mut self, length: usize) -> anyhow::Result<Hello> {
        self.socket.set_read_timeout(Some(AGAIN))?;
        let deadline = Instant::now() + ANSWER;
        let answered = loop {
            match self.exchange(length) {
                Err(error) if Instant::now() < deadline && error.is::<Unanswered>() => {}
                other => break other,
            }
        };
        self.socket.set_read_timeout(Some(ANSWER))?;
        answered
    }

    /// Sends one datagram of `length` bytes (8 at least) and hears who answers, with the same bytes. Late answers
    /// to earlier datagrams are passed over.
    pub fn exchange(&mut self, length: usize) -> anyhow::Result<Hello> {
        self.number += 1;
        let mut sent = vec![0; length.max(8)];
        Pattern::new(self.number, Direction::Up).fill(0, &mut sent);
        sent[..8].copy_from_slice(&self.number.to_be_bytes());
        self.socket.send(&sent).context("cannot send")?;
        let mut bytes = vec![0; HELLO + sent.len() + 1];
        let got = loop {
            match self.socket.recv(&mut bytes) {
                Ok(got) if got >= HELLO + 8 && self.is_earlier(&bytes[HELLO..HELLO + 8]) => {}
                Ok(got) => break got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(Unanswered { number: self.number, from: self.local }.into());
                }
                Err(error) => return Err(error).context("cannot receive"),
            }
        };
        ensure!(got == HELLO + sent.len() && bytes[HELLO..got] == sent[..], "a datagram came back altered");
        Hello::decode(&bytes[..HELLO])
    }

    fn is_earlier(&self, number: &[u8]) -> bool {
        number < &self.number.to_be_bytes()[..]
    }
}

/// A datagram had no answer in time.
#[derive(Debug)]
struct Unanswered {
    number: u64,
    from: SocketAddr,
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no answer to datagram {} from {}", self.number, self.from)
    }
}

impl std::error::Error for Unanswered {}

/// Port 0 of an address: any port.
pub fn any_port(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), 0)
}
