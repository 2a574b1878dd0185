use std::collections::VecDeque;

use futures::task::noop_waker;
use tokio::io::{AsyncReadExt, AsyncWriteExt, empty};

use super::*;

/// Takes what it is given room for, and tells the writes apart.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    writes: Vec<Vec<u8>>,
    room: VecDeque<usize>,
    full: bool,
    fails: bool,
    shut: bool,
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut taken = self.0.lock().unwrap();
        if taken.full {
            return Poll::Pending;
        }
        if taken.fails {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = taken.room.pop_front().unwrap_or(bytes.len()).min(bytes.len());
        taken.writes.push(bytes[..count].to_vec());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().shut = true;
        Poll::Ready(Ok(()))
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&noop_waker()))
}

fn say(connection: &mut Gathered<tokio::io::Empty>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    let mut cx = Context::from_waker(Waker::noop());
    let written = Pin::new(&mut *connection).poll_write(&mut cx, bytes);
    if written.is_ready() {
        assert!(Pin::new(connection).poll_flush(&mut cx).is_ready(), "a flush waits for nothing");
    }
    written
}

#[tokio::test]
async fn what_tasks_flush_in_one_turn_leaves_in_one_write() {
    let wire = Wire::default();
    let (mut connection, sending) = gathered(empty(), wire.clone());
    tokio::spawn(sending);
    for round in 0..3u8 {
        for frame in 0..4 {
            connection.write_all(&[round, frame]).await.unwrap();
            connection.flush().await.unwrap();
        }
        tokio::task::yield_now().await;
        let writes = std::mem::take(&mut wire.0.lock().unwrap().writes);
        assert_eq!(writes, [[round, 0, round, 1, round, 2, round, 3]]);
    }
}

#[test]
fn what_is_not_flushed_stays() {
    let wire = Wire::default();
    let (mut connection, mut sending) = gathered(empty(), wire.clone());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut connection).poll_write(&mut cx, b"ab").is_ready());
    assert!(poll(&mut sending).is_pending());
    assert!(wire.0.lock().unwrap().writes.is_empty());
    assert!(Pin::new(&mut connection).poll_flush(&mut cx).is_ready());
    assert!(poll(&mut sending).is_pending());
    assert_eq!(wire.0.lock().unwrap().writes, [b"ab"]);
}

#[test]
fn what_the_kernel_takes_in_parts_keeps_its_order() {
    let wire = Wire::default();
    wire.0.lock().unwrap().room = [1, 2].into();
    let (mut connection, mut sending) = gathered(empty(), wire.clone());
    assert!(say(&mut connection, b"abcd").is_ready());
    assert!(poll(&mut sending).is_pending());
    assert!(say(&mut connection, b"ef").is_ready());
    assert!(poll(&mut sending).is_pending());
    assert_eq!(wire.0.lock().unwrap().writes.concat(), b"abcdef");
}

#[test]
fn i13_a_peer_that_does_not_read_holds_the_writer_up() {
    let wire = Wire::default();
    wire.0.lock().unwrap().full = true;
    let (mut connection, mut sending) = gathered(empty(), wire.clone());
    let mut taken = 0;
    while say(&mut connection, &[0; 1024]).is_ready() {
        assert!(poll(&mut sending).is_pending());
        taken += 1024;
        assert!(taken <= 2 * MOST + 1024, "without bound");
    }
    assert!(taken >= MOST);
    wire.0.lock().unwrap().full = false;
    assert!(poll(&mut sending).is_pending());
    assert!(say(&mut connection, &[0]).is_ready());
    assert!(poll(&mut sending).is_pending());
    assert_eq!(wire.0.lock().unwrap().writes.concat().len(), taken + 1);
}

#[test]
fn a_broken_connection_is_told_to_who_writes_next() {
    let wire = Wire::default();
    wire.0.lock().unwrap().fails = true;
    let (mut connection, mut sending) = gathered(empty(), wire);
    assert!(say(&mut connection, b"a").is_ready());
    assert!(poll(&mut sending).is_ready());
    let Poll::Ready(Err(error)) = say(&mut connection, b"b") else { panic!("written into the void") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_shutdown_sends_the_rest_first() {
    let wire = Wire::default();
    let (mut connection, sending) = gathered(empty(), wire.clone());
    tokio::spawn(sending);
    connection.write_all(b"rest").await.unwrap();
    connection.shutdown().await.unwrap();
    let taken = wire.0.lock().unwrap();
    assert_eq!((taken.writes.concat().as_slice(), taken.shut), (&b"rest"[..], true));
}

#[test]
fn a_dropped_connection_does_not_wait_for_a_peer_that_does_not_read() {
    let wire = Wire::default();
    wire.0.lock().unwrap().full = true;
    let (mut connection, mut sending) = gathered(empty(), wire);
    assert!(say(&mut connection, b"a").is_ready());
    assert!(poll(&mut sending).is_pending());
    drop(connection);
    assert!(poll(&mut sending).is_ready());
}

#[tokio::test]
async fn i13_a_dropped_connection_ends_whoever_waits_for_a_peer_that_does_not_read() {
    let wire = Wire::default();
    wire.0.lock().unwrap().full = true;
    let (mut connection, sending) = gathered(empty(), wire);
    let sending = tokio::spawn(sending);
    assert!(say(&mut connection, b"a").is_ready());
    tokio::task::yield_now().await;
    drop(connection);
    tokio::time::timeout(std::time::Duration::from_secs(10), sending).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn reading_is_the_connections_own() {
    let (mut connection, _sending) = gathered(&b"said"[..], Wire::default());
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"said");
}
