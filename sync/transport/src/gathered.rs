//! A connection whose writes leave together.
//!
//! HTTP/2 and TLS write and flush each large frame by itself, so that a turn of the driver would take a system call, and the
//! way through both kernels, for each shard. Here a flush only says that something waits: it leaves when every task that was
//! ready to run has run, in one write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Bytes that may wait. A writer that has more waits itself.
const MOST: usize = 128 * 1024;

/// Wraps the two halves of a connection. The future sends what was written; it must run on the writer's runtime, and ends
/// with the connection.
pub fn gathered<R, W>(read: R, write: W) -> (Gathered<R>, Sending<W>) {
    let shared = Shared::default();
    (Gathered { read, shared: shared.clone() }, Sending { write, shared, sent: 0, sending: Vec::new() })
}

/// The connection as its user sees it.
#[derive(Debug)]
pub struct Gathered<R> {
    read: R,
    shared: Shared,
}

/// See [`gathered`].
#[derive(Debug)]
#[must_use = "nothing leaves unless it runs"]
pub struct Sending<W> {
    write: W,
    shared: Shared,
    /// What is on its way, and how much of it the connection has taken.
    sending: Vec<u8>,
    sent: usize,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Waiting>>);

/// Between the two.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    flushed: bool,
    closing: bool,
    /// Nobody is left who would wait for the rest.
    dropped: bool,
    /// Nothing leaves any more, and why.
    ended: Option<io::ErrorKind>,
    /// Who sends, if it waits for something to send …
    sender: Option<Waker>,
    /// … and whatever it waits for.
    ender: Option<Waker>,
    /// Who waits for room, or for the end.
    writer: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whole at every instant that somebody could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn wake_sender(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    fn end(&mut self, kind: io::ErrorKind) {
        self.ended = Some(kind);
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Whether more may be written.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.ended {
            return Poll::Ready(Err(kind.into()));
        }
        if self.bytes.len() < MOST {
            return Poll::Ready(Ok(()));
        }
        self.writer = Some(cx.waker().clone());
        self.flushed = true;
        self.wake_sender();
        Poll::Pending
    }
}

impl<R> Connected for Gathered<R> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<R: AsyncRead + Unpin> AsyncRead for Gathered<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl<R: Unpin> AsyncWrite for Gathered<R> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut waiting = self.shared.lock();
        ready!(waiting.poll_room(cx))?;
        waiting.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.shared.lock();
        ready!(waiting.poll_room(cx))?;
        slices.iter().for_each(|slice| waiting.bytes.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.shared.lock();
        if let Some(kind) = waiting.ended {
            return Poll::Ready(Err(kind.into()));
        }
        if !waiting.bytes.is_empty() {
            waiting.flushed = true;
            waiting.wake_sender();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.shared.lock();
        match waiting.ended {
            Some(io::ErrorKind::NotConnected) => return Poll::Ready(Ok(())),
            Some(kind) => return Poll::Ready(Err(kind.into())),
            None => {}
        }
        waiting.closing = true;
        waiting.writer = Some(cx.waker().clone());
        waiting.wake_sender();
        Poll::Pending
    }
}

impl<R> Drop for Gathered<R> {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        (waiting.closing, waiting.dropped) = (true, true);
        if let Some(ender) = waiting.ender.take() {
            ender.wake();
        }
    }
}

impl<W: AsyncWrite + Unpin> Sending<W> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.sent < self.sending.len() {
                let taken = ready!(Pin::new(&mut self.write).poll_write(cx, &self.sending[self.sent..]))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sent += taken;
            }
            self.sending.clear();
            self.sent = 0;
            let mut waiting = self.shared.lock();
            if !waiting.bytes.is_empty() && (waiting.flushed || waiting.closing) {
                waiting.flushed = false;
                std::mem::swap(&mut waiting.bytes, &mut self.sending);
                if !waiting.closing
                    && let Some(writer) = waiting.writer.take()
                {
                    writer.wake();
                }
                continue;
            }
            if !waiting.closing {
                waiting.sender = Some(cx.waker().clone());
                return Poll::Pending;
            }
            drop(waiting);
            return Pin::new(&mut self.write).poll_shutdown(cx);
        }
    }
}

impl<W: AsyncWrite + Unpin> Future for Sending<W> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.lock().ender = Some(cx.waker().clone());
        let ended = match self.poll_send(cx) {
            // What the kernel does not take at once is lost with the connection, as without this.
            Poll::Pending if self.shared.lock().dropped => Ok(()),
            ended => ready!(ended),
        };
        let kind = ended.map_or_else(|error| error.kind(), |()| io::ErrorKind::NotConnected);
        self.shared.lock().end(kind);
        Poll::Ready(())
    }
}

impl<W> Drop for Sending<W> {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        if waiting.ended.is_none() {
            waiting.end(io::ErrorKind::BrokenPipe);
        }
    }
}

#[cfg(test)]
mod tests;
