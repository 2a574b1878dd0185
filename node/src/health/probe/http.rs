//! A GET is answered with an expected status (RFC 9112). Only the status line is read.

use std::net::SocketAddr;

use lockstep_model::health::{Failure, FailureKind};
use lockstep_model::intent::HttpProbe;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure;

/// Longest status line that is read (RFC 9112 names no limit; servers send far less).
const MAX_STATUS_LINE: usize = 1024;

pub(super) async fn get(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: SocketAddr,
    probe: &HttpProbe,
) -> Result<(), Failure> {
    let HttpProbe { path, host, expect } = probe;
    let host = if host.is_empty() { to.to_string() } else { host.clone() };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lockstep-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| failure(&e))?;
    stream.flush().await.map_err(|e| failure(&e))?;
    let mut line = Vec::with_capacity(MAX_STATUS_LINE);
    while !line.contains(&b'\n') {
        if line.len() >= MAX_STATUS_LINE {
            return Err(Failure::of(FailureKind::Protocol));
        }
        let mut rest = (&mut stream).take((MAX_STATUS_LINE - line.len()) as u64);
        let read = rest.read_buf(&mut line).await.map_err(|e| failure(&e))?;
        if read == 0 {
            return Err(Failure::of(FailureKind::Closed));
        }
    }
    let status = status(&line).ok_or(Failure::of(FailureKind::Protocol))?;
    if expect.contains(status) {
        return Ok(());
    }
    Err(Failure { kind: FailureKind::Status, detail: status.into() })
}

/// `HTTP/1.1 200 OK`: section 4 of RFC 9112; the reason may be absent.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [b'0'..=b'9', b' ', code @ ..] = rest else { return None };
    let (digits, after) = code.split_at_checked(3)?;
    if !matches!(after.first(), Some(b' ' | b'\r' | b'\n')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn status_lines() {
        for (line, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503 Service Unavailable\r\n", Some(503)),
            ("HTTP/1.1 404\r\n", Some(404)),
            ("HTTP/1.1 204 \n", Some(204)),
            ("HTTP/2 200 OK\r\n", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 20 OK\r\n", None),
            ("HTTP/1.1 +20 OK\r\n", None),
            ("HTTP/1.1  200\r\n", None),
            ("HTTP/1.", None),
            ("SSH-2.0-OpenSSH_9.6\r\n", None),
            ("\n", None),
        ] {
            assert_eq!(status(line.as_bytes()), expected, "{line:?}");
        }
    }
}
