//! Keys of longest-prefix tries: the length in bits, then the data, of which the first so many bits count.

use std::collections::HashMap;
use std::hash::Hash;

use aya::Pod;

use crate::error::DataplaneError;
use crate::map::Map;
use crate::sys;

/// A prefix.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TrieKey<T> {
    pub(crate) length: u32,
    pub(crate) data: T,
}

// SAFETY: repr(C); `new` asserts that there is no padding between or behind the fields, which are any bytes.
unsafe impl<T: Pod> Pod for TrieKey<T> {}

impl<T: Pod> TrieKey<T> {
    pub(crate) const fn new(length: u32, data: T) -> Self {
        const { assert!(size_of::<Self>() == size_of::<u32>() + size_of::<T>()) };
        Self { length, data }
    }
}

/// Writes what differs. By the list of what is there, because a lookup finds shorter prefixes as well.
pub(crate) fn put_missing_prefixes<T, V>(
    map: &Map<TrieKey<T>, V>,
    name: &'static str,
    wanted: &HashMap<TrieKey<T>, V>,
    limit: u32,
) -> Result<usize, DataplaneError>
where
    T: Pod + Eq + Hash,
    V: Pod + PartialEq,
{
    if wanted.len() > limit as usize {
        return Err(DataplaneError::Limit { what: name, limit: limit as usize });
    }
    let found: HashMap<TrieKey<T>, V> =
        map.entries().map_err(DataplaneError::map(name))?.into_iter().collect();
    let mut written = 0;
    for (key, value) in wanted {
        if found.get(key) != Some(value) {
            map.put(key, value, sys::ANY).map_err(DataplaneError::map(name))?;
            written += 1;
        }
    }
    Ok(written)
}
