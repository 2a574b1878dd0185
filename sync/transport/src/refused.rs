//! Why peers are not served, for who asks: a peer that understands no record of this node's holds none of its flows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_model::ids::NodeId;

/// The last refusal of each peer that was not let in since. Bounded: only members of the cluster get that far.
#[derive(Debug, Clone, Default)]
pub struct Refused(Arc<Mutex<BTreeMap<NodeId, String>>>);

impl Refused {
    /// Whether it is the first time, or for another reason.
    pub(crate) fn refuse(&self, peer: NodeId, reason: &str) -> bool {
        let before = self.lock().insert(peer, reason.to_owned());
        before.as_deref() != Some(reason)
    }

    pub(crate) fn let_in(&self, peer: NodeId) {
        self.lock().remove(&peer);
    }

    /// Why the peer is not served, if it was refused.
    pub fn reason(&self, peer: NodeId) -> Option<String> {
        self.lock().get(&peer).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        // A map of texts is whole at every instant.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
