//! Small datagrams, as many as go: one connected socket at each end, many datagrams a system call.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::processor;
use crate::socket;

/// Of a frame of 64 bytes with its check sequence: 60 less the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 60 - 14 - 20 - 8;
/// Datagrams of one system call.
const BATCH: usize = 64;
const LOOK: Duration = Duration::from_millis(100);

/// Room for a batch: the structures refer to each other's memory, so they are made where they stay.
struct Batch {
    headers: Vec<libc::mmsghdr>,
    _vectors: Vec<libc::iovec>,
    _bytes: Vec<[u8; PAYLOAD]>,
}

impl Batch {
    fn new() -> Self {
        let mut bytes = vec![[0u8; PAYLOAD]; BATCH];
        let mut vectors: Vec<libc::iovec> = bytes
            .iter_mut()
            .map(|payload| libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: PAYLOAD })
            .collect();
        let headers = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: integers and pointers, for which zero means none.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        // The heap's memory does not move with the vectors.
        Batch { headers, _vectors: vectors, _bytes: bytes }
    }
}

/// Counts datagrams on `port` until told to stop. On the second processor; the sender is on the first.
pub(crate) fn sink(port: u16, stop: &AtomicBool, count: &AtomicU64) -> anyhow::Result<()> {
    processor::stay_on(processor::SECOND)?;
    let socket = UdpSocket::bind(("0.0.0.0", port)).context("cannot bind")?;
    let mut batch = Batch::new();
    while !stop.load(Ordering::Relaxed) {
        if !socket::readable(socket.as_raw_fd(), LOOK)? {
            continue;
        }
        // SAFETY: BATCH headers, each of which refers to a buffer of the stated length.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                batch.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = std::io::Error::last_os_error();
            if socket::is_timeout(&error) {
                continue;
            }
            return Err(error).context("cannot receive");
        }
        count.fetch_add(received as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends to `to` until told to stop, from the calling thread's namespace.
pub(crate) fn send(to: SocketAddrV4, stop: &AtomicBool) -> anyhow::Result<()> {
    processor::stay_on(processor::FIRST)?;
    let socket = UdpSocket::bind(("0.0.0.0", 0)).context("cannot bind")?;
    socket.connect(to).with_context(|| format!("cannot connect to {to}"))?;
    let mut batch = Batch::new();
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: BATCH headers, each of which refers to a buffer of the stated length.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.headers.as_mut_ptr(), BATCH as u32, 0) };
        if sent < 0 {
            let error = std::io::Error::last_os_error();
            // A full queue on the way is the measurement's business, not an error.
            if socket::is_timeout(&error) || error.raw_os_error() == Some(libc::ENOBUFS) {
                continue;
            }
            return Err(error).context("cannot send");
        }
    }
    Ok(())
}
