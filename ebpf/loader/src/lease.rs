//! The kernel's leases, mapped into this process: the lease thread opens, extends and closes them with single
//! stores, without a system call and without waiting for anybody.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_abi::lease::{LeaseValue, UNBOUNDED};
use lockstep_abi::map::MAX_LEASES;
use lockstep_model::ids::{Epoch, GroupId};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::clock::KernelInstant;
use crate::map::Map;
use crate::maps::Maps;

/// Until when a group's owner may forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseUntil {
    /// Up to this instant, at most `MAX_LEASE` away.
    At(KernelInstant),
    /// The sole voter's: no end.
    Unbounded,
}

/// Why a lease was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The group has no slot: no image with it has been applied yet.
    #[error("group {0} is not in the kernel (yet)")]
    UnknownGroup(GroupId),
}

/// A [`LeaseValue`] whose words are changed one at a time.
#[repr(C)]
struct LeaseCell {
    until_ns: AtomicU64,
    epoch: AtomicU64,
    since_ns: AtomicU64,
    group: AtomicU64,
    flags: AtomicU64,
    frozen: AtomicU64,
    /// The programs' own, see `LeaseValue`.
    fast: AtomicU64,
    pad: AtomicU64,
}
const _: () = assert!(size_of::<LeaseCell>() == size_of::<LeaseValue>());

/// The memory of the map `LEASES`.
pub(crate) struct LeaseTable {
    memory: NonNull<LeaseCell>,
    length: NonZeroUsize,
}

// SAFETY: the memory is shared with the kernel anyway, and only ever touched through atomics.
unsafe impl Send for LeaseTable {}
// SAFETY: as above.
unsafe impl Sync for LeaseTable {}

impl LeaseTable {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let map: Map<u32, LeaseValue> = Map::open(path)?;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as usize;
        let bytes = (MAX_LEASES as usize * size_of::<LeaseValue>()).next_multiple_of(page);
        let length = NonZeroUsize::new(bytes).expect("there are lease slots");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing else refers to it.
        let memory = unsafe {
            mmap(None, length, protection, MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE, map.fd().as_fd(), 0)
        }?;
        Ok(Self { memory: memory.cast(), length })
    }

    fn cells(&self) -> &[LeaseCell] {
        // SAFETY: the mapping holds MAX_LEASES values of this layout (the map's value size was compared) and
        // lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), MAX_LEASES as usize) }
    }

    pub(crate) fn read(&self, slot: u32) -> Option<LeaseValue> {
        let cell = self.cells().get(slot as usize)?;
        Some(LeaseValue {
            until_ns: cell.until_ns.load(Ordering::Acquire),
            epoch: cell.epoch.load(Ordering::Relaxed),
            since_ns: cell.since_ns.load(Ordering::Relaxed),
            group: cell.group.load(Ordering::Relaxed),
            flags: cell.flags.load(Ordering::Acquire),
            frozen: cell.frozen.load(Ordering::Relaxed),
            fast: cell.fast.load(Ordering::Relaxed),
            pad: cell.pad.load(Ordering::Relaxed),
        })
    }

    /// The group of each slot; 0: free.
    pub(crate) fn groups(&self) -> Vec<u64> {
        self.cells().iter().map(|cell| cell.group.load(Ordering::Acquire)).collect()
    }

    pub(crate) fn slot_of(&self, group: GroupId) -> Option<u32> {
        // 0 marks a free slot; no group has that number.
        if group.get() == 0 {
            return None;
        }
        let found = self.cells().iter().position(|cell| cell.group.load(Ordering::Acquire) == group.get())?;
        Some(found as u32)
    }

    /// See [`LeaseWriter::refuse_new_flows`]. Written in free slots too: whoever gets one later is under it.
    pub(crate) fn refuse_new_flows(&self, refuse: bool) {
        for cell in self.cells() {
            cell.frozen.store(u64::from(refuse), Ordering::Release);
        }
    }

    /// Takes a slot into use, without a lease.
    pub(crate) fn assign(&self, slot: u32, group: GroupId) {
        let cell = &self.cells()[slot as usize];
        cell.close();
        cell.epoch.store(0, Ordering::Relaxed);
        cell.since_ns.store(0, Ordering::Relaxed);
        cell.group.store(group.get(), Ordering::Release);
    }

    /// Frees a slot. Its addresses must have gone before.
    pub(crate) fn free(&self, slot: u32) {
        let cell = &self.cells()[slot as usize];
        cell.group.store(0, Ordering::Release);
        cell.close();
        cell.epoch.store(0, Ordering::Relaxed);
        cell.since_ns.store(0, Ordering::Relaxed);
    }
}

impl Drop for LeaseTable {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.memory.cast(), self.length.get()) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

impl LeaseCell {
    fn close(&self) {
        self.flags.store(0, Ordering::Release);
        self.until_ns.store(0, Ordering::Release);
    }
}

/// Writes leases. Cheap to clone, for one real-time thread: no lock, no allocation, no system call but the
/// clock's. All writes for one group must come from one thread.
#[derive(Clone)]
pub struct LeaseWriter {
    maps: Arc<Maps>,
}

impl LeaseWriter {
    pub(crate) fn new(maps: Arc<Maps>) -> Self {
        Self { maps }
    }

    /// Opens or extends the group's lease. A new epoch begins with a closed lease and takes its takeover time from now.
    pub fn set(&self, group: GroupId, epoch: Epoch, until: LeaseUntil) -> Result<(), LeaseError> {
        let cell = self.cell(group)?;
        if cell.epoch.load(Ordering::Relaxed) != epoch.get() {
            cell.close();
            cell.epoch.store(epoch.get(), Ordering::Release);
            cell.since_ns.store(KernelInstant::now().0, Ordering::Release);
        }
        match until {
            LeaseUntil::At(until) => {
                // The bound before the end of the unbounded one, so that there is no gap between.
                cell.until_ns.store(until.0, Ordering::Release);
                cell.flags.store(0, Ordering::Release);
            }
            LeaseUntil::Unbounded => cell.flags.store(UNBOUNDED, Ordering::Release),
        }
        // The group may have been deleted meanwhile: its slot must not stay open for the next user.
        if cell.group.load(Ordering::Acquire) != group.get() {
            cell.close();
            return Err(LeaseError::UnknownGroup(group));
        }
        Ok(())
    }

    /// Closes the lease now. Programs that have already read it end within a grace period
    /// ([`crate::wait_grace_period`]).
    pub fn close(&self, group: GroupId) -> Result<(), LeaseError> {
        self.cell(group)?.close();
        Ok(())
    }

    /// Whether this node, whatever it owns or comes to own, makes no new flows; those that exist go on. For an
    /// owner whose intent is stale. It lasts until it is taken back, or until the dataplane is opened again.
    pub fn refuse_new_flows(&self, refuse: bool) {
        self.maps.leases.refuse_new_flows(refuse);
    }

    /// Whether no lease in the kernel, whoever wrote it, is without an end.
    pub fn is_bounded(&self) -> bool {
        self.maps.leases.cells().iter().all(|cell| cell.flags.load(Ordering::Acquire) & UNBOUNDED == 0)
    }

    /// The lease as the kernel has it: epoch, and until when; `None` if closed or unknown.
    pub fn read(&self, group: GroupId) -> Option<(Epoch, LeaseUntil)> {
        let lease = self.maps.leases.read(self.maps.leases.slot_of(group)?)?;
        let until = match (lease.flags & UNBOUNDED != 0, lease.until_ns) {
            (true, _) => LeaseUntil::Unbounded,
            (false, 0) => return None,
            (false, until) => LeaseUntil::At(KernelInstant(until)),
        };
        Some((Epoch(lease.epoch), until))
    }

    /// Whether the programs would forward for the group under this epoch's lease now.
    pub fn is_held(&self, group: GroupId, epoch: Epoch) -> bool {
        let leases = &self.maps.leases;
        let lease = leases.slot_of(group).and_then(|slot| leases.read(slot));
        lease.is_some_and(|lease| {
            lease.group == group.get() && lease.epoch == epoch.get() && lease.is_held(KernelInstant::now().0)
        })
    }

    fn cell(&self, group: GroupId) -> Result<&LeaseCell, LeaseError> {
        let slot = self.maps.leases.slot_of(group).ok_or(LeaseError::UnknownGroup(group))?;
        Ok(&self.maps.leases.cells()[slot as usize])
    }
}
