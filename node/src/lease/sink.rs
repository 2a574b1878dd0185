//! Where the lease thread writes. The node implements this with the kernel's maps; tests with a map of their own.

use std::io;
use std::time::Duration;

use lockstep_ownership::message::Tenure;

/// A lease's end on the kernel's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelUntil {
    /// CLOCK_MONOTONIC, ns.
    At(u64),
    /// No end: the sole voter's.
    Unbounded,
}

/// The group is not in the kernel (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group is not in the kernel (yet)")]
pub(crate) struct NotInKernel;

/// The kernel's leases, and what has to happen around them.
pub(crate) trait LeaseSink: Send + Sync + 'static {
    /// Applies what is queued from the former owners of these groups, and waits for its writer; returns
    /// within `within`. Called on a helper thread: it may block. The lease opens without it when it is late.
    fn before_open(&self, tenures: &[Tenure], within: Duration);

    /// Opens or extends a lease. Called on the lease thread: it must not block.
    fn set(&self, tenure: Tenure, until: KernelUntil) -> Result<(), NotInKernel>;

    /// Closes the lease of the group, if it has one. Called on the lease thread: it must not block.
    fn close(&self, tenure: Tenure) -> Result<(), NotInKernel>;

    /// Whether the kernel holds no lease without an end, this run's or an earlier one's. Called on the lease thread.
    fn is_bounded(&self) -> bool;

    /// Tells the segments that the group's addresses are here, for the first time after [`Self::set`];
    /// repeating it is for whoever gets [`super::Event::Opened`]. Called on the lease thread: it must not
    /// block. Whether anything was sent.
    fn announce(&self, tenure: Tenure) -> bool;

    /// Returns when no program runs any more that may have read a lease before it was closed. Called on a
    /// helper thread.
    fn wait_grace_period(&self) -> io::Result<()>;
}
