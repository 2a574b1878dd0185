//! What has to be true outside Raft before a membership changes. Who serves a group is not Raft's business, but it is
//! made of Raft's voters (DESIGN section 7).

use std::future::Future;
use std::pin::Pin;

use lockstep_model::ids::NodeId;

/// An answer that may take a while; `Err`: why the change must not be made.
pub type Checked<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Asked by the leader.
pub trait MembershipGuard: Send + Sync + 'static {
    /// This node was alone and needed nobody's promise. Returns once its kernel has acknowledged that no lease is
    /// without an end; none is made from then on, until [`Self::company_settled`].
    fn before_company(&self) -> Checked<'_>;

    /// The other node is part of the agreed state, or was not let in.
    fn company_settled(&self);

    /// `node` is about to vote, and so to be needed for every lease: returns once this node hears it.
    fn before_vote(&self, node: NodeId) -> Checked<'_>;
}

/// For clusters without leases, in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuard;

impl MembershipGuard for NoGuard {
    fn before_company(&self) -> Checked<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn company_settled(&self) {}

    fn before_vote(&self, _node: NodeId) -> Checked<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}
