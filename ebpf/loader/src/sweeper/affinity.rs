//! Choices that clients keep end when nobody has used them for as long as their service says.

use std::collections::HashMap;

use lockstep_abi::map as names;
use lockstep_abi::service::{AFFINITY, AffinityKey, AffinityValue};

use super::Swept;
use crate::clock::KernelInstant;
use crate::error::DataplaneError;
use crate::map::{HashCursor, Page};
use crate::maps::Maps;

/// Of a step's budget, the part that looks at choices.
const SHARE: usize = 4;

/// Goes through the choices again and again.
pub(super) struct AffinitySweep {
    page: Page<AffinityKey, AffinityValue>,
    cursor: Option<HashCursor>,
    /// How long each service's choices are kept, as of the start of this round.
    kept_ns: HashMap<u64, u64>,
}

impl AffinitySweep {
    pub(super) fn new() -> Self {
        Self { page: Page::new(), cursor: None, kept_ns: HashMap::new() }
    }

    pub(super) fn step(
        &mut self,
        maps: &Maps,
        now: KernelInstant,
        budget: usize,
        swept: &mut Swept,
    ) -> Result<(), DataplaneError> {
        if self.cursor.is_none() {
            self.begin(maps)?;
        }
        let failed = DataplaneError::map(names::AFFINITY);
        let count = (budget / SHARE).max(1);
        self.cursor = maps.affinity.page(self.cursor, count, &mut self.page).map_err(&failed)?;
        for (key, value) in self.page.iter() {
            if !self.is_over(key, value, now) {
                continue;
            }
            // A packet may have used it meanwhile. One that does so after this look makes its flow all the same,
            // and the client's next one chooses anew.
            let value = maps.affinity.get(key).map_err(&failed)?;
            if value.is_some_and(|value| self.is_over(key, &value, now))
                && maps.affinity.remove(key).map_err(&failed)?
            {
                swept.forgotten += 1;
            }
        }
        Ok(())
    }

    fn begin(&mut self, maps: &Maps) -> Result<(), DataplaneError> {
        self.kept_ns.clear();
        let versions = maps.versions.slice(0, names::VERSION_SLOTS as usize);
        // While a new version takes the place of an old one, both are there: the longer time holds.
        for version in versions.map_err(DataplaneError::map(names::VERSIONS))? {
            if version.service != 0 && version.flags & AFFINITY != 0 {
                let kept = self.kept_ns.entry(version.service).or_default();
                *kept = version.affinity_ns.max(*kept);
            }
        }
        Ok(())
    }

    /// Also where the service is gone, or keeps no choices any more.
    fn is_over(&self, key: &AffinityKey, value: &AffinityValue, now: KernelInstant) -> bool {
        let kept = self.kept_ns.get(&key.service);
        kept.is_none_or(|kept| now.0.saturating_sub(value.seen_ns) > *kept)
    }
}
