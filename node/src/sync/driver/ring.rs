//! Reading what the kernel reported.

use lockstep_sync_core::Time;

use super::super::table::Events;
use super::Driver;

impl<E: Events> Driver<E> {
    /// Whether it came to the end of what there was.
    pub(super) fn read_events(&mut self, max: usize) -> bool {
        if !self.more_events {
            return true;
        }
        let mut count = self.drain_events(max);
        if count == 0 {
            match self.events.sleep() {
                Ok(true) => count = self.drain_events(max),
                Ok(false) => {}
                // The next tick looks again.
                Err(error) => tracing::error!(%error, "the flow events cannot be waited for"),
            }
        }
        // New flows seldom come alone: to be woken for each would cost their packets and this thread more than it gains.
        self.more_events = count > 0;
        count < max
    }

    fn drain_events(&mut self, max: usize) -> usize {
        let origin = &mut self.origin;
        let count = self.events.drain(max, &mut |change, epoch, at| {
            origin.handle_change(Time::from_nanos(at.0), change, epoch);
        });
        self.pace.took(count);
        count
    }

    pub(super) fn look_for_lost(&mut self) {
        match self.events.take_lost() {
            Ok(shards) => self.origin.handle_lost(self.now(), shards),
            Err(error) => tracing::error!(%error, "whether the kernel lost flow events cannot be read"),
        }
    }
}
