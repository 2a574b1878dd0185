//! One message to a socket of the routing daemon's.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// An answer is not read further.
const MAX_ANSWER: usize = 256;

/// Sends the words as one line, and reads one line within `limit`: "ok" is success.
pub(super) fn tell(path: &Path, limit: Duration, words: &[String]) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let mut stream = open(path, limit).map_err(|e| format!("it cannot be connected to: {e}"))?;
    let line = words.join(" ") + "\n";
    stream.write_all(line.as_bytes()).map_err(|e| format!("it cannot be written to: {e}"))?;
    match answer(&mut stream, deadline).map_err(|e| format!("no answer within {limit:?}: {e}"))?.as_str() {
        "ok" => Ok(()),
        other => Err(format!("it answered {other:?}, not \"ok\"")),
    }
}

/// A listener whose queue is full is waited for no longer than for an answer.
fn open(path: &Path, limit: Duration) -> nix::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let micros = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
    setsockopt(&socket, SendTimeout, &TimeVal::microseconds(micros))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

fn answer(stream: &mut UnixStream, deadline: Instant) -> std::io::Result<String> {
    let mut read = Vec::new();
    let mut buffer = [0; MAX_ANSWER];
    while !read.contains(&b'\n') && read.len() < MAX_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would be no limit.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&read);
    Ok(text.lines().next().unwrap_or_default().trim_end().to_owned())
}
