//! Rules for what leaves: a set of them for each source that a rule names.
//!
//! Sets are as immutable as versions: a new one is written to a free slot, and named by one write.

use std::collections::{BTreeSet, HashMap, HashSet};

use lockstep_abi::map as names;
use lockstep_abi::snat::{EXEMPT, RULE_ADDRESSES, SET_RULES, SNAT, STATIC, SnatRule, SnatSet};
use lockstep_model::image::{SnatAction, SnatRuleImage};
use lockstep_model::intent::{PortRange, Prefix};

use super::Apply;
use super::version::mask;
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6, wide};
use crate::sync_map::remove_others;
use crate::sys;
use crate::trie::TrieKey;

const NO_RULE: SnatRule = SnatRule {
    id: 0,
    destination: [0; 4],
    destination_mask: [0; 4],
    first_port: 0,
    last_port: 0,
    protocol: 0,
    action: 0,
    to_count: 0,
    to: [0; RULE_ADDRESSES],
};
const FREE: SnatSet = SnatSet { count: 0, pad: 0, rules: [NO_RULE; SET_RULES] };

impl Apply<'_> {
    /// Names, for each source, the set of the rules that may match it. The programs find the longest source: its
    /// set has the rules of those around it as well, in the order of the image.
    pub(super) fn publish_rules<A: KernelFamily>(&mut self) -> Result<(), DataplaneError> {
        let maps = A::maps(self.maps);
        let failed = DataplaneError::map(A::NAMES.snat_sources);
        let found: HashMap<TrieKey<A>, u32> =
            maps.snat_sources.entries().map_err(&failed)?.into_iter().collect();
        for source in self.sources::<A>() {
            let wanted = self.set(&source);
            let Some(key) = key::<A>(&source) else { continue };
            if let Some(index) = found.get(&key) {
                let set = self.maps.snat_sets.get(index).map_err(DataplaneError::map(names::SNAT_SETS))?;
                if set.as_ref() == Some(&wanted) {
                    continue;
                }
            }
            let index = self.free_set()?;
            self.maps
                .snat_sets
                .put(&index, &wanted, sys::ANY)
                .map_err(DataplaneError::map(names::SNAT_SETS))?;
            maps.snat_sources.put(&key, &index, sys::ANY).map_err(&failed)?;
            self.report.changes.push(format!("{} rules for {source} in set {index}", wanted.count));
        }
        Ok(())
    }

    /// Removes sources that no rule names; whether there were any. A rule may also have gone from a set
    /// that is still named: then a set is unnamed now.
    pub(super) fn remove_rules<A: KernelFamily>(&mut self) -> Result<bool, DataplaneError> {
        let sources = self.sources::<A>();
        let wanted: HashMap<TrieKey<A>, u32> =
            sources.iter().filter_map(|source| Some((key::<A>(source)?, 0))).collect();
        let maps = A::maps(self.maps);
        let removed = remove_others(&maps.snat_sources, A::NAMES.snat_sources, &wanted)?;
        self.report.note(removed, "rule sources removed");
        Ok(removed > 0 || !self.unnamed_sets()?.is_empty())
    }

    fn rules(&self) -> impl Iterator<Item = &SnatRuleImage> {
        self.image.snat_rules.iter().filter(|rule| self.slots.contains_key(&rule.group))
    }

    fn sources<A: KernelFamily>(&self) -> BTreeSet<Prefix> {
        self.rules().map(|rule| rule.source).filter(|source| source.family() == A::FAMILY).collect()
    }

    fn set(&mut self, source: &Prefix) -> SnatSet {
        let matching: Vec<SnatRule> =
            self.rules().filter(|rule| rule.source.covers(source)).map(|rule| self.rule(rule)).collect();
        if matching.len() > SET_RULES {
            self.report.warnings.push(format!(
                "{} rules may match {source}: only the first {SET_RULES} are tried",
                matching.len()
            ));
        }
        let mut set = FREE;
        for rule in matching.into_iter().take(SET_RULES) {
            set.rules[set.count as usize] = rule;
            set.count += 1;
        }
        set
    }

    fn rule(&self, rule: &SnatRuleImage) -> SnatRule {
        let family = rule.source.family();
        // Every port, and port 0 with them: what has no ports is meant as well.
        let ports =
            if rule.ports == PortRange::ANY { PortRange { first: 0, ..rule.ports } } else { rule.ports };
        let mut to = [0; RULE_ADDRESSES];
        let mut to_count = 0;
        let known = rule.action.addresses().iter().filter_map(|address| self.addresses.get(address));
        for (place, found) in to.iter_mut().zip(known) {
            *place = found.index;
            to_count += 1;
        }
        SnatRule {
            id: rule.id.get(),
            destination: wide(rule.destination.address),
            destination_mask: mask(family, rule.destination.length),
            first_port: ports.first,
            last_port: ports.last,
            protocol: rule.protocol.map_or(0, |protocol| protocol.number(family).into()),
            action: match rule.action {
                SnatAction::Snat(_) => SNAT,
                SnatAction::Static(_) => STATIC,
                SnatAction::None => EXEMPT,
            },
            to_count,
            to,
        }
    }

    /// A set that no program can be reading: those of this run that replace others leave them for the end of it.
    fn free_set(&self) -> Result<u32, DataplaneError> {
        let sets = self.sets()?;
        let free = sets.iter().position(|set| set.count == 0);
        let limit = names::MAX_SNAT_SETS as usize;
        free.map(|index| index as u32).ok_or(DataplaneError::Limit { what: "rule sets", limit })
    }

    fn sets(&self) -> Result<Vec<SnatSet>, DataplaneError> {
        let sets = self.maps.snat_sets.slice(0, names::MAX_SNAT_SETS as usize);
        sets.map_err(DataplaneError::map(names::SNAT_SETS))
    }

    /// Sets that no source names.
    pub(super) fn unnamed_sets(&self) -> Result<Vec<u32>, DataplaneError> {
        let mut named = HashSet::new();
        self.named_sets::<V4>(&mut named)?;
        self.named_sets::<V6>(&mut named)?;
        let sets = (0..).zip(self.sets()?);
        Ok(sets
            .filter(|(index, set)| set.count != 0 && !named.contains(index))
            .map(|(index, _)| index)
            .collect())
    }

    fn named_sets<A: KernelFamily>(&self, named: &mut HashSet<u32>) -> Result<(), DataplaneError> {
        let sources = A::maps(self.maps).snat_sources.entries();
        let sources = sources.map_err(DataplaneError::map(A::NAMES.snat_sources))?;
        named.extend(sources.into_iter().map(|(_, index)| index));
        Ok(())
    }

    /// Frees sets. A grace period must have passed since they were named.
    pub(super) fn free_sets(&self, indexes: &[u32]) -> Result<(), DataplaneError> {
        for index in indexes {
            self.maps.snat_sets.put(index, &FREE, sys::ANY).map_err(DataplaneError::map(names::SNAT_SETS))?;
        }
        Ok(())
    }
}

fn key<A: KernelFamily>(source: &Prefix) -> Option<TrieKey<A>> {
    Some(TrieKey::new(source.length.into(), A::of_ip(source.address)?))
}
