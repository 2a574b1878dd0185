//! The thread that reads the kernel's table for walks, a page at a time.

use std::sync::{Arc, mpsc as blocking};

use lockstep_sync_core::PassId;
use tokio::sync::mpsc;

use super::driver::Done;
use super::table::Table;

/// Entries of a page, of which half are replies.
const PAGE: usize = 8192;

/// Asks for the next page of a pass, or for its first. At most one is asked for at a time.
pub(super) struct NextPage {
    pub(super) pass: PassId,
    pub(super) restart: bool,
}

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start<T: Table>(
    table: Arc<T>,
    done: mpsc::UnboundedSender<Done>,
) -> std::io::Result<blocking::Sender<NextPage>> {
    let (pages, queue) = blocking::channel::<NextPage>();
    let run = move || {
        let mut cursor = None;
        while let Ok(NextPage { pass, restart }) = queue.recv() {
            if restart {
                cursor = None;
            }
            let result = table.page(cursor, PAGE).map(|(records, next)| {
                cursor = next;
                (records, next.is_none())
            });
            let share = cursor.map_or(1.0, |cursor| table.share(cursor));
            if done.send(Done::Page { pass, share, result }).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("flow-walker".into()).spawn(run)?;
    Ok(pages)
}
