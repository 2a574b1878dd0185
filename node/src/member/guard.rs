//! What the leases ask for before the membership changes.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::ids::{LogIndex, NodeId};
use lockstep_raft_store::guard::{Checked, MembershipGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::parts::Parts;

/// A lease without an end gets one within a millisecond, unless this daemon has just started over a kernel that
/// has one of an earlier run: then once it may ask for promises again (`MAX_LEASE` after the start).
const BOUND_TIMEOUT: Duration = Duration::from_secs(4);
/// Reports come with every renewal.
const HEARD_TIMEOUT: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(10);

/// Asks the lease thread.
pub(super) struct Guard {
    pub(super) parts: Arc<Parts>,
}

impl MembershipGuard for Guard {
    fn before_company(&self) -> Checked<'_> {
        Box::pin(async {
            let Some(lease) = self.parts.lease() else { return Err("this node is starting".to_owned()) };
            match timeout(BOUND_TIMEOUT, lease.prepare_growth()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err("the lease thread has ended".to_owned()),
                Err(_) => Err(format!(
                    "the kernel still holds a lease without an end after {BOUND_TIMEOUT:?}: with another node it could \
                     be served twice (see `lockstep group status`)"
                )),
            }
        })
    }

    fn company_settled(&self) {
        let Some(lease) = self.parts.lease() else { return };
        // The state that names the other node first: in between this node would take itself for alone.
        let published = self.parts.raft.watch().borrow().clone();
        lease.applied(published.applied.unwrap_or(LogIndex(0)), &published.state);
        lease.growth_done();
    }

    fn before_vote(&self, node: NodeId) -> Checked<'_> {
        Box::pin(async move {
            let Some(lease) = self.parts.lease() else { return Err("this node is starting".to_owned()) };
            let deadline = Instant::now() + HEARD_TIMEOUT;
            while !lease.snapshot().reporting.contains(&node) {
                if Instant::now() >= deadline {
                    let state = self.parts.raft.stale();
                    let address = state.nodes.get(&node).map(|spec| spec.lease_address.to_string());
                    return Err(format!(
                        "no lease datagram of node {node} ({} over UDP) has come here for {HEARD_TIMEOUT:?}, so that it \
                         could give no promise: do both have the same cluster.secret_file, and does a filter drop them?",
                        address.unwrap_or_default()
                    ));
                }
                sleep(LOOK).await;
            }
            Ok(())
        })
    }
}
