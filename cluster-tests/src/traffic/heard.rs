//! When each flow of a client thread was heard last, for those who wait until traffic goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Nanos, nanos};

/// How old what is told may be: looking at every flow costs.
const INTERVAL: Duration = Duration::from_millis(50);

/// Written by the thread, read by others.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    published: Nanos,
    of_flow: Vec<Nanos>,
}

impl Heard {
    /// Tells when each flow was heard last (0: never), unless that was told a moment ago.
    pub fn publish(&self, now: Nanos, of_flow: impl Iterator<Item = Nanos>) {
        let mut last = self.last();
        if now >= last.published + nanos(INTERVAL) {
            last.published = now;
            last.of_flow.clear();
            last.of_flow.extend(of_flow);
        }
    }

    /// How many were heard last before `time`.
    pub fn before(&self, time: Nanos) -> usize {
        self.last().of_flow.iter().filter(|at| **at < time).count()
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_were_not_heard_are_counted() {
        let heard = Heard::default();
        let start = nanos(INTERVAL);
        heard.publish(start, [0, 5, 9].into_iter());
        assert_eq!((heard.before(1), heard.before(6), heard.before(10)), (1, 2, 3));
        heard.publish(start + 1, [20, 20, 20].into_iter());
        assert_eq!(heard.before(10), 3, "what was told a moment ago stands");
        heard.publish(start * 2, [20, 20, 20].into_iter());
        assert_eq!(heard.before(10), 0);
    }
}
