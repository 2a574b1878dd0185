//! The thread that reads the kernel's table for walks, a page at a time, and no faster than a standby needs: what a walk
//! takes of the processors is taken from packets, at both ends.

use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};

use lockstep_sync_core::PassId;
use tokio::sync::mpsc;

use super::driver::Done;
use super::table::Table;

/// Entries of a page, of which half are replies.
const PAGE: usize = 2048;

/// From one page to the next: a million flows in less than four seconds.
const APART: Duration = Duration::from_micros(3700);

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
        let mut pace = Pace { next: Instant::now() };
        while let Ok(NextPage { pass, restart }) = queue.recv() {
            std::thread::sleep(pace.rest(Instant::now()));
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

/// When the next page may be read.
struct Pace {
    next: Instant,
}

impl Pace {
    /// How long the page that is asked for at `now` has to wait. A delay of up to a page is made up for.
    fn rest(&mut self, now: Instant) -> Duration {
        let due = self.next.max(now.checked_sub(APART).unwrap_or(now));
        self.next = due + APART;
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_no_faster_than_a_standby_needs_and_late_ones_do_not_add_up() {
        let begin = Instant::now();
        let mut pace = Pace { next: begin };
        assert_eq!(pace.rest(begin), Duration::ZERO);
        assert_eq!(pace.rest(begin), APART, "asked for at once");
        assert_eq!(pace.rest(begin + APART), APART);
        let late = begin + 3 * APART + APART / 2;
        assert_eq!(pace.rest(late), Duration::ZERO);
        assert_eq!(pace.rest(late), APART / 2, "half of it was lost already");
        let much_later = begin + 100 * APART;
        assert_eq!(pace.rest(much_later), Duration::ZERO);
        assert_eq!(pace.rest(much_later), Duration::ZERO);
        assert_eq!(pace.rest(much_later), APART, "one page is made up for, and no more");
    }
}
