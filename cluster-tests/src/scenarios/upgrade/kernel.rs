//! What of a node's dataplane is in the kernel: nothing of an earlier build may stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;

use crate::bpf::{self, Kind, Tag};
use crate::wait;

/// How long the kernel may take to free what nobody holds any more.
const FREED: Duration = Duration::from_secs(10);
/// How long nothing may change before it counts as rest.
const REST: Duration = Duration::from_millis(500);

/// What others have loaded.
#[derive(Debug)]
pub(super) struct Others([BTreeSet<u32>; 3]);

/// What is not others'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    pub(super) programs: BTreeMap<u32, Tag>,
    pub(super) maps: BTreeSet<u32>,
    pub(super) links: BTreeSet<u32>,
}

impl Others {
    /// Everything that is there now.
    pub(super) fn look() -> anyhow::Result<Self> {
        let of = |kind| Ok::<_, anyhow::Error>(bpf::ids(kind)?.into_iter().collect());
        Ok(Others([of(Kind::Program)?, of(Kind::Map)?, of(Kind::Link)?]))
    }

    /// What came since.
    pub(super) fn ours(&self) -> anyhow::Result<Ours> {
        let new = |kind, index: usize| -> anyhow::Result<BTreeSet<u32>> {
            Ok(bpf::ids(kind)?.into_iter().filter(|id| !self.0[index].contains(id)).collect())
        };
        let mut programs = BTreeMap::new();
        for id in new(Kind::Program, 0)? {
            programs.extend(bpf::tag(id)?.map(|tag| (id, tag)));
        }
        Ok(Ours { programs, maps: new(Kind::Map, 1)?, links: new(Kind::Link, 2)? })
    }

    /// The same, once nothing is being freed any more.
    pub(super) fn ours_at_rest(&self) -> anyhow::Result<Ours> {
        let mut last = self.ours()?;
        wait::until("the kernel to come to rest", FREED, || {
            wait::pass(REST)?;
            let now = self.ours()?;
            let same = now == last;
            last = now;
            Ok(same.then_some(()))
        })?;
        Ok(last)
    }

    /// Waits until nothing of `former`'s programs is left, and gives what there is then.
    pub(super) fn after(&self, former: &Ours) -> anyhow::Result<Ours> {
        let mut now = self.ours()?;
        wait::until_ok("the former programs to be freed", FREED, || {
            now = self.ours()?;
            let left: Vec<u32> =
                former.programs.keys().filter(|id| now.programs.contains_key(id)).copied().collect();
            ensure!(left.is_empty(), "programs {left:?} of the former daemon are still there");
            Ok(())
        })?;
        Ok(now)
    }

    /// Waits until nothing is left that is not theirs.
    pub(super) fn alone_again(&self) -> anyhow::Result<()> {
        wait::until_ok("everything to be freed", FREED, || {
            let left = self.ours()?;
            ensure!(left.counts() == [0; 3], "left is {left:?}");
            Ok(())
        })
    }
}

impl Ours {
    /// How many of each kind.
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.programs.len(), self.maps.len(), self.links.len()]
    }

    /// The programs' tags: what they do, whoever loaded them.
    pub(super) fn tags(&self) -> BTreeSet<Tag> {
        self.programs.values().copied().collect()
    }
}
