//! Small things about sockets.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Whether there is something to read within `limit`.
pub(crate) fn readable(fd: RawFd, limit: Duration) -> anyhow::Result<bool> {
    // SAFETY: the callers' sockets outlive the call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let timeout = PollTimeout::try_from(limit).context("too long a timeout")?;
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error).context("poll"),
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
