//! Writing a version beside the one that is published, and freeing those that are not any more (I11).

use std::collections::HashSet;

use lockstep_abi::map as names;
use lockstep_abi::service::{AFFINITY, Endpoint, PositionKey, ServiceVersion, SourceKey};
use lockstep_model::intent::Prefix;

use super::Apply;
use super::version::Version;
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6, wide};
use crate::grace::wait_grace_period;
use crate::sys;
use crate::trie::TrieKey;

/// Bits of a source's key in front of the address.
const SLOT_BITS: u32 = u32::BITS;

fn versions_failed(source: std::io::Error) -> DataplaneError {
    DataplaneError::Map { map: names::VERSIONS, source }
}

fn source_key(slot: u32, prefix: &Prefix) -> TrieKey<SourceKey> {
    let key = SourceKey { version_slot: slot, address: wide(prefix.address) };
    TrieKey::new(SLOT_BITS + u32::from(prefix.length), key)
}

impl Apply<'_> {
    pub(super) fn versions(&self) -> Result<Vec<ServiceVersion>, DataplaneError> {
        self.maps.versions.slice(0, names::VERSION_SLOTS as usize).map_err(versions_failed)
    }

    /// A version as the kernel has it.
    pub(super) fn read_version(&self, slot: u32) -> Result<(ServiceVersion, Vec<Endpoint>), DataplaneError> {
        let header = self.maps.versions.get(&slot).map_err(versions_failed)?.unwrap_or_default();
        let count = header.endpoint_count.min(names::MAX_ENDPOINTS) as usize;
        let endpoints = self.maps.endpoints.slice(slot * names::MAX_ENDPOINTS, count);
        Ok((header, endpoints.map_err(DataplaneError::map(names::ENDPOINTS))?))
    }

    /// Whether all who may connect to a published version are in the kernel. They belong to the revision, so that
    /// none can be missing unless somebody else removed it.
    pub(super) fn has_sources(&self, slot: u32, version: &Version) -> Result<bool, DataplaneError> {
        let failed = DataplaneError::map(names::SOURCES);
        for prefix in &version.sources {
            // A lookup finds a shorter prefix as well, which lets the same clients in.
            if self.maps.sources.get(&source_key(slot, prefix)).map_err(&failed)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A slot that no program can be reading. When none is left, those that were just replaced are freed first.
    pub(super) fn free_version(&self) -> Result<u32, DataplaneError> {
        for attempt in 0..2 {
            let versions = self.versions()?;
            if let Some(slot) = versions.iter().position(|version| version.service == 0) {
                return Ok(slot as u32);
            }
            if attempt == 0 {
                let unnamed = self.unnamed_versions()?;
                wait_grace_period().map_err(versions_failed)?;
                self.free_versions(&unnamed)?;
            }
        }
        Err(DataplaneError::Limit { what: "service versions", limit: names::VERSION_SLOTS as usize })
    }

    /// The header comes before what is kept by (slot, …): whatever a crash leaves of those is found by it.
    pub(super) fn write_version(&self, slot: u32, version: &Version) -> Result<(), DataplaneError> {
        let first = slot * names::MAX_ENDPOINTS;
        let keys: Vec<u32> = (first..).take(version.endpoints.len()).collect();
        let (_, result) = self.maps.endpoints.put_all(&keys, &version.endpoints, sys::ANY);
        result.map_err(DataplaneError::map(names::ENDPOINTS))?;
        // Of the slot's last version.
        let (_, result) = self.maps.endpoint_hops.put_all(&keys, &vec![0; keys.len()], sys::ANY);
        result.map_err(DataplaneError::map(names::ENDPOINT_HOPS))?;
        self.maps.versions.put(&slot, &version.header, sys::ANY).map_err(versions_failed)?;

        let first = slot * names::MAGLEV_WORDS;
        let table = version.maglev();
        let keys: Vec<u32> = (first..).take(table.len()).collect();
        let (_, result) = self.maps.maglev.put_all(&keys, &table, sys::ANY);
        result.map_err(DataplaneError::map(names::MAGLEV))?;

        if version.header.flags & AFFINITY != 0 {
            let keys: Vec<PositionKey> = positions(slot, &version.endpoints).collect();
            let values: Vec<u32> = (0..).take(keys.len()).collect();
            let (_, result) = self.maps.positions.put_all(&keys, &values, sys::ANY);
            result.map_err(DataplaneError::map(names::POSITIONS))?;
        }
        for prefix in &version.sources {
            let put = self.maps.sources.put(&source_key(slot, prefix), &1, sys::ANY);
            put.map_err(DataplaneError::map(names::SOURCES))?;
        }
        Ok(())
    }

    /// Versions that no frontend names.
    pub(super) fn unnamed_versions(&self) -> Result<Vec<u32>, DataplaneError> {
        let mut named = HashSet::new();
        self.named_versions::<V4>(&mut named)?;
        self.named_versions::<V6>(&mut named)?;
        let versions = (0..).zip(self.versions()?);
        let unnamed =
            versions.filter(|(slot, version)| *version != ServiceVersion::default() && !named.contains(slot));
        Ok(unnamed.map(|(slot, _)| slot).collect())
    }

    fn named_versions<A: KernelFamily>(&self, named: &mut HashSet<u32>) -> Result<(), DataplaneError> {
        let maps = A::maps(self.maps);
        let services = maps.services.hash_entries().map_err(DataplaneError::map(A::NAMES.services))?;
        named.extend(services.iter().map(|(_, current)| current.version_slot));
        let ranges = maps.ranges.entries().map_err(DataplaneError::map(A::NAMES.ranges))?;
        named.extend(ranges.iter().map(|(_, current)| current.version_slot));
        Ok(())
    }

    /// Frees versions, what is kept by their slot first. A grace period must have passed since they were named.
    pub(super) fn free_versions(&self, slots: &[u32]) -> Result<(), DataplaneError> {
        if slots.is_empty() {
            return Ok(());
        }
        let failed = DataplaneError::map(names::SOURCES);
        let sources = self.maps.sources.entries().map_err(&failed)?;
        for (key, _) in sources.iter().filter(|(key, _)| slots.contains(&key.data.version_slot)) {
            self.maps.sources.remove(key).map_err(&failed)?;
        }
        for slot in slots {
            let (header, endpoints) = self.read_version(*slot)?;
            if header.flags & AFFINITY != 0 {
                for key in positions(*slot, &endpoints) {
                    self.maps.positions.remove(&key).map_err(DataplaneError::map(names::POSITIONS))?;
                }
            }
            self.maps.versions.put(slot, &ServiceVersion::default(), sys::ANY).map_err(versions_failed)?;
        }
        Ok(())
    }
}

fn positions(slot: u32, endpoints: &[Endpoint]) -> impl Iterator<Item = PositionKey> + '_ {
    endpoints.iter().map(move |endpoint| PositionKey { endpoint: endpoint.id, version_slot: slot, pad: 0 })
}
