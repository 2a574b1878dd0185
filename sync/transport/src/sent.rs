//! What was sent to each peer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_model::ids::NodeId;

/// Bytes of the messages to each peer since the start, before encryption and without headers of the transport's. Bounded:
/// only members of the cluster get that far.
#[derive(Debug, Clone, Default)]
pub struct SentBytes(Arc<Mutex<BTreeMap<NodeId, Arc<AtomicU64>>>>);

impl SentBytes {
    /// Where a stream to `peer` counts.
    pub(crate) fn to(&self, peer: NodeId) -> Arc<AtomicU64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default().clone()
    }

    /// To one peer.
    pub fn get(&self, peer: NodeId) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&peer).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
