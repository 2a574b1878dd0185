//! Handing learnt flows to the programs' `learn` stages: see `lockstep_abi::learn`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Mutex;

use lockstep_abi::flow::{FlowValue, NewFlow};
use lockstep_abi::learn::{LEARN_BATCH, LEARN_HEADER, LearnEntry, WAITING};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::family::{KernelFamily, V4, V6};
use crate::sys;

/// The stage of each family. One call at a time uses one.
pub(crate) struct Learners {
    pub(crate) v4: Mutex<Learner<V4>>,
    pub(crate) v6: Mutex<Learner<V6>>,
}

/// A stage, and the memory of the map that it reads.
pub(crate) struct Learner<A> {
    program: OwnedFd,
    entries: NonNull<LearnEntry<A>>,
    length: NonZeroUsize,
}

// SAFETY: the memory is shared with the kernel, which touches it only while this value's owner makes it run.
unsafe impl<A: KernelFamily> Send for Learner<A> {}

impl<A: KernelFamily> Learner<A> {
    /// `map` is the family's array, of which the loaded object says that it has entries of this layout.
    pub(crate) fn new(program: OwnedFd, map: impl AsFd) -> io::Result<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as usize;
        let bytes = (LEARN_BATCH as usize * size_of::<LearnEntry<A>>()).next_multiple_of(page);
        let length = NonZeroUsize::new(bytes).expect("there are entries");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing else refers to it.
        let memory = unsafe { mmap(None, length, protection, flags, map.as_fd(), 0) }?;
        Ok(Self { program, entries: memory.cast(), length })
    }

    fn entries(&mut self) -> &mut [LearnEntry<A>] {
        // SAFETY: the mapping holds LEARN_BATCH values of this layout, any bytes are one, it lives as long as `self`, and
        // the kernel leaves it alone but for `run`, which borrows `self` as this does.
        unsafe { std::slice::from_raw_parts_mut(self.entries.as_ptr(), LEARN_BATCH as usize) }
    }

    /// Lays a flow at `position`.
    pub(crate) fn lay(&mut self, position: usize, flow: &NewFlow<A>, has_reply: bool) {
        let entry = &mut self.entries()[position];
        entry.original = flow.original();
        if has_reply {
            entry.reply = flow.reply();
        }
        (entry.outcome, entry.removes) = (WAITING, 0);
    }

    /// Lays the removal of a flow at `position`, of which `original` says key and stamp.
    pub(crate) fn lay_removal(&mut self, position: usize, original: FlowValue<A>) {
        let entry = &mut self.entries()[position];
        entry.original = original;
        (entry.outcome, entry.removes) = (WAITING, 1);
    }

    /// Takes in the first `count`; the outcome of each.
    pub(crate) fn run(&mut self, count: usize) -> io::Result<impl Iterator<Item = i32>> {
        let mut input = [0; LEARN_HEADER + size_of::<u32>()];
        input[LEARN_HEADER..].copy_from_slice(&(count as u32).to_ne_bytes());
        let mut output = input;
        sys::test_run(self.program.as_fd(), &[], &input, &mut output, 0)?;
        // SAFETY: within the mapping. Volatile: the kernel wrote it meanwhile.
        let outcome = |entry: &LearnEntry<A>| unsafe { std::ptr::read_volatile(&raw const entry.outcome) };
        Ok(self.entries()[..count].iter().map(outcome))
    }
}

impl<A> Drop for Learner<A> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and nothing borrows it any more.
        if let Err(error) = unsafe { munmap(self.entries.cast(), self.length.get()) } {
            tracing::error!(%error, "the memory of learnt flows cannot be unmapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_abi::learn::Stamp;
    use lockstep_abi::state;
    use lockstep_model::flow::{FlowStamp, FlowVersion};
    use lockstep_model::ids::Epoch;

    #[test]
    fn i6_the_stage_orders_as_the_model_does() {
        let all = || {
            (0..27u32).map(|number| {
                let [epoch, birth, n] = [number / 9, number / 3 % 3, number % 3].map(u64::from);
                let version = FlowVersion { birth, n };
                let word = state::word(u32::MAX >> number, n as u32);
                (FlowStamp { epoch: Epoch(epoch), version }, Stamp::of(epoch, birth, word))
            })
        };
        for (told, stage) in all() {
            for (held, stage_held) in all() {
                assert_eq!(stage.supersedes(&stage_held), told > held, "{told:?} over {held:?}");
            }
        }
    }
}
