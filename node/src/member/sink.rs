//! Where the lease thread writes: the kernel's leases. A witness has none.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_loader::{KernelInstant, LeaseUntil, LeaseWriter, wait_grace_period};
use lockstep_ownership::message::Tenure;

use crate::lease::{KernelUntil, LeaseSink, NotInKernel};
use crate::parts::Parts;
use crate::sync::Sync;

/// The sink of this node.
pub(super) fn sink(parts: &Arc<Parts>, sync: Option<Sync>) -> Arc<dyn LeaseSink> {
    match (&parts.dataplane, sync) {
        (Some(dataplane), Some(sync)) => {
            let leases = dataplane.loader.lock().expect("no holder panics").lease_writer();
            Arc::new(Kernel { leases, sync, parts: parts.clone() })
        }
        _ => Arc::new(Nowhere),
    }
}

struct Kernel {
    leases: LeaseWriter,
    sync: Sync,
    parts: Arc<Parts>,
}

impl LeaseSink for Kernel {
    fn before_open(&self, tenures: &[Tenure], within: Duration) {
        let deadline = Instant::now() + within;
        for tenure in tenures {
            // What came too late is counted by the driver, and fills gaps only.
            let _in_time = self.sync.before_open(tenure.group, tenure.epoch, deadline);
        }
    }

    fn set(&self, tenure: Tenure, until: KernelUntil) -> Result<(), NotInKernel> {
        let until = match until {
            KernelUntil::At(ns) => LeaseUntil::At(KernelInstant(ns)),
            KernelUntil::Unbounded => LeaseUntil::Unbounded,
        };
        self.leases.set(tenure.group, tenure.epoch, until).map_err(|_| NotInKernel)
    }

    fn close(&self, tenure: Tenure) -> Result<(), NotInKernel> {
        self.leases.close(tenure.group).map_err(|_| NotInKernel)
    }

    fn is_bounded(&self) -> bool {
        self.leases.is_bounded()
    }

    fn announce(&self, tenure: Tenure) -> bool {
        self.parts.dataplane.as_ref().is_some_and(|dataplane| dataplane.announce(tenure))
    }

    fn wait_grace_period(&self) -> io::Result<()> {
        wait_grace_period()
    }
}

/// A witness is never assigned a group.
struct Nowhere;

impl LeaseSink for Nowhere {
    fn before_open(&self, _: &[Tenure], _: Duration) {}

    fn set(&self, _: Tenure, _: KernelUntil) -> Result<(), NotInKernel> {
        Err(NotInKernel)
    }

    fn close(&self, _: Tenure) -> Result<(), NotInKernel> {
        Ok(())
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn announce(&self, _: Tenure) -> bool {
        false
    }

    fn wait_grace_period(&self) -> io::Result<()> {
        Ok(())
    }
}
