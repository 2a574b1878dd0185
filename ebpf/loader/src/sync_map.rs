//! Makes a small map hold exactly what it should, by what the kernel holds now.

use std::collections::HashMap;
use std::hash::Hash;

use aya::Pod;

use crate::error::DataplaneError;
use crate::map::Map;
use crate::sys;

/// Writes what differs.
pub(crate) fn put_missing<K, V>(
    map: &Map<K, V>,
    name: &'static str,
    wanted: &HashMap<K, V>,
    limit: u32,
) -> Result<usize, DataplaneError>
where
    K: Pod + Eq + Hash,
    V: Pod + PartialEq,
{
    if wanted.len() > limit as usize {
        return Err(DataplaneError::Limit { what: name, limit: limit as usize });
    }
    let mut written = 0;
    for (key, value) in wanted {
        if map.get(key).map_err(DataplaneError::map(name))?.as_ref() != Some(value) {
            map.put(key, value, sys::ANY).map_err(DataplaneError::map(name))?;
            written += 1;
        }
    }
    Ok(written)
}

/// Removes what is not wanted.
pub(crate) fn remove_others<K, V>(
    map: &Map<K, V>,
    name: &'static str,
    wanted: &HashMap<K, V>,
) -> Result<usize, DataplaneError>
where
    K: Pod + Eq + Hash,
    V: Pod,
{
    let mut removed = 0;
    for (key, _) in map.entries().map_err(DataplaneError::map(name))? {
        if !wanted.contains_key(&key) {
            map.remove(&key).map_err(DataplaneError::map(name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Both: first what must go, so that a full map has room.
pub(crate) fn sync_map<K, V>(
    map: &Map<K, V>,
    name: &'static str,
    wanted: HashMap<K, V>,
    limit: u32,
) -> Result<(), DataplaneError>
where
    K: Pod + Eq + Hash,
    V: Pod + PartialEq,
{
    remove_others(map, name, &wanted)?;
    put_missing(map, name, &wanted, limit)?;
    Ok(())
}
