//! A node that keeps failing is taken last, for longer every time.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_model::ids::NodeId;

use crate::time::Instant;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest hold-down, and for how long a node must not fail to be forgiven.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Record {
    failures: u32,
    until: Instant,
}

/// Hold-downs by node.
#[derive(Debug, Default)]
pub(super) struct HoldDowns(BTreeMap<NodeId, Record>);

impl HoldDowns {
    pub(super) fn note_failure(&mut self, now: Instant, node: NodeId) {
        let record = self.0.entry(node).or_insert(Record { failures: 0, until: now });
        if now >= record.until + LONGEST {
            record.failures = 0;
        }
        let length = FIRST.saturating_mul(1 << record.failures.min(16)).min(LONGEST);
        record.failures += 1;
        record.until = now + length;
    }

    pub(super) fn is_held(&self, now: Instant, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|r| now < r.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_a_minute_and_is_forgiven() {
        let mut h = HoldDowns::default();
        let (node, mut now) = (NodeId(1), Instant::from_nanos(0));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            h.note_failure(now, node);
            assert!(
                h.is_held(now + Duration::from_secs(seconds) - Duration::from_nanos(1), node),
                "{seconds}"
            );
            now = now + Duration::from_secs(seconds);
            assert!(!h.is_held(now, node), "{seconds}");
        }
        now = now + LONGEST;
        h.note_failure(now, node);
        assert!(!h.is_held(now + FIRST, node));
        assert!(!h.is_held(now, NodeId(2)));
    }
}
