//! The conversation of a TCP connection, seen from either end.
//!
//! The client opens with 16 bytes, a magic number and its key; the endpoint answers with 16 bytes, a magic
//! number and its own number. Then the client sends predicted bytes, and for every one of them that is right
//! the endpoint sends one predicted byte back.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::pattern::{Direction, Pattern};
use crate::sockopt;

const CLIENT_MAGIC: u64 = 0x4c6f_636b_7374_6570;
const ENDPOINT_MAGIC: u64 = 0x7065_7473_6b63_6f4c;
const HELLO: usize = 16;
const CHUNK: usize = 4096;

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed in order.
    Closed,
    /// Reset, or another error of the socket.
    Reset,
    /// A byte was not the predicted one.
    Corrupted,
}

/// One end of a connection; `mine` and `theirs` differ in direction only.
#[derive(Debug)]
pub struct Conversation {
    socket: TcpStream,
    hello_out: [u8; HELLO],
    hello_out_sent: usize,
    hello_in: [u8; HELLO],
    hello_in_seen: usize,
    is_client: bool,
    patterns: Option<(Pattern, Pattern)>,
    owed: u64,
    sent: u64,
    received: u64,
    end: Option<End>,
}

impl Conversation {
    /// The client's end.
    pub fn client(socket: TcpStream, key: u64) -> Self {
        let mut conversation = Self::new(socket, hello(CLIENT_MAGIC, key), true);
        conversation.patterns = Some((Pattern::new(key, Direction::Up), Pattern::new(key, Direction::Down)));
        conversation
    }

    /// The end of the endpoint with this number.
    pub fn endpoint(socket: TcpStream, number: u64) -> Self {
        Self::new(socket, hello(ENDPOINT_MAGIC, number), false)
    }

    fn new(socket: TcpStream, hello_out: [u8; HELLO], is_client: bool) -> Self {
        Conversation {
            socket,
            hello_out,
            hello_out_sent: 0,
            hello_in: [0; HELLO],
            hello_in_seen: 0,
            is_client,
            patterns: None,
            owed: 0,
            sent: 0,
            received: 0,
            end: None,
        }
    }

    /// Lets `bytes` more be sent as soon as the socket takes them.
    pub fn owe(&mut self, bytes: u64) {
        self.owed += bytes;
    }

    /// Reads and writes what can be; returns how many predicted bytes came in.
    pub fn advance(&mut self) -> u64 {
        if self.end.is_some() {
            return 0;
        }
        let result = self.write().and_then(|()| self.read()).and_then(|count| {
            if !self.is_client {
                // Owing follows reading, so the answer leaves in the same turn.
                self.write()?;
            }
            Ok(count)
        });
        match result {
            Ok(count) => count,
            Err(end) => {
                self.end = Some(end);
                0
            }
        }
    }

    fn write(&mut self) -> Result<(), End> {
        while self.hello_out_sent < HELLO {
            if !self.is_client && self.hello_in_seen < HELLO {
                return Ok(());
            }
            match self.socket.write(&self.hello_out[self.hello_out_sent..]) {
                Ok(count) => self.hello_out_sent += count,
                Err(error) => return not_now(&error),
            }
        }
        let Some((mine, _)) = self.patterns else { return Ok(()) };
        let mut chunk = [0u8; CHUNK];
        while self.owed > 0 {
            let count = (self.owed as usize).min(CHUNK);
            mine.fill(self.sent, &mut chunk[..count]);
            match self.socket.write(&chunk[..count]) {
                Ok(count) => {
                    self.sent += count as u64;
                    self.owed -= count as u64;
                }
                Err(error) => return not_now(&error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<u64, End> {
        let mut total = 0;
        let mut chunk = [0u8; CHUNK];
        loop {
            let count = match self.socket.read(&mut chunk) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => count,
                Err(error) => {
                    not_now(&error)?;
                    return Ok(total);
                }
            };
            let bytes = self.take_hello(&chunk[..count])?;
            let bytes = &chunk[count - bytes..count];
            if bytes.is_empty() {
                continue;
            }
            let Some((_, theirs)) = self.patterns else { return Err(End::Corrupted) };
            if !theirs.matches(self.received, bytes) {
                return Err(End::Corrupted);
            }
            self.received += bytes.len() as u64;
            total += bytes.len() as u64;
            if !self.is_client {
                self.owed += bytes.len() as u64;
            } else if self.received > self.sent {
                return Err(End::Corrupted);
            }
        }
    }

    /// Takes what belongs to the hello; returns how many bytes are left.
    fn take_hello(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let missing = HELLO - self.hello_in_seen;
        if missing == 0 {
            return Ok(bytes.len());
        }
        let taken = missing.min(bytes.len());
        self.hello_in[self.hello_in_seen..self.hello_in_seen + taken].copy_from_slice(&bytes[..taken]);
        self.hello_in_seen += taken;
        if self.hello_in_seen == HELLO {
            let (magic, number) = parse_hello(&self.hello_in);
            let expected = if self.is_client { ENDPOINT_MAGIC } else { CLIENT_MAGIC };
            if magic != expected {
                return Err(End::Corrupted);
            }
            if !self.is_client {
                self.patterns =
                    Some((Pattern::new(number, Direction::Down), Pattern::new(number, Direction::Up)));
            }
        }
        Ok(bytes.len() - taken)
    }

    /// The number the peer said in its hello.
    pub fn peer_number(&self) -> Option<u64> {
        (self.hello_in_seen == HELLO).then(|| parse_hello(&self.hello_in).1)
    }

    /// Predicted bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Predicted bytes received and found right.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether everything that was to be sent has been answered.
    pub fn settled(&self) -> bool {
        self.end.is_none() && self.hello_in_seen == HELLO && self.owed == 0 && self.sent == self.received
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// What the kernel says of it, for a failure's message.
    pub fn kernel(&self) -> String {
        // SAFETY: numbers, and the option's own layout.
        let info = unsafe { sockopt::get::<libc::tcp_info>(&self.socket, libc::IPPROTO_TCP, libc::TCP_INFO) };
        let info = match info {
            Ok(info) => info,
            Err(error) => return error.to_string(),
        };
        format!(
            "state {}, {} segments not acknowledged, {} retransmissions, retransmission timeout {} ms",
            info.tcpi_state,
            info.tcpi_unacked,
            info.tcpi_retransmits,
            info.tcpi_rto / 1000
        )
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

fn not_now(error: &std::io::Error) -> Result<(), End> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected => Ok(()),
        _ => Err(End::Reset),
    }
}

fn hello(magic: u64, number: u64) -> [u8; HELLO] {
    let mut bytes = [0; HELLO];
    bytes[..8].copy_from_slice(&magic.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn parse_hello(bytes: &[u8; HELLO]) -> (u64, u64) {
    let part = |range: std::ops::Range<usize>| {
        u64::from_be_bytes(bytes[range].try_into().expect("half of a hello is eight bytes"))
    };
    (part(0..8), part(8..16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        (client, server)
    }

    fn converse(client: &mut Conversation, server: &mut Conversation, until: impl Fn(&Conversation) -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !until(client) {
            assert!(std::time::Instant::now() < deadline, "{client:?} {server:?}");
            client.advance();
            server.advance();
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let (a, b) = pair();
        let (mut client, mut server) = (Conversation::client(a, 9), Conversation::endpoint(b, 3));
        client.owe(20_000);
        converse(&mut client, &mut server, Conversation::settled);
        assert_eq!(client.received(), 20_000);
        assert_eq!(client.peer_number(), Some(3));
    }

    #[test]
    fn a_wrong_byte_is_corruption() {
        let (a, mut b) = pair();
        let mut client = Conversation::client(a, 9);
        client.owe(1);
        client.advance();
        b.write_all(&hello(ENDPOINT_MAGIC, 1)).unwrap();
        let right = {
            let mut byte = [0];
            Pattern::new(9, Direction::Down).fill(0, &mut byte);
            byte[0]
        };
        b.write_all(&[right ^ 0x10]).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while client.end().is_none() && std::time::Instant::now() < deadline {
            client.advance();
        }
        assert_eq!(client.end(), Some(End::Corrupted));
    }
}
