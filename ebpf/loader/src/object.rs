//! The compiled programs, embedded; and what their maps should look like in the kernel.

use std::collections::BTreeMap;

use aya_obj::Object;

use crate::error::DataplaneError;

/// The eBPF object that `build.rs` made of `ebpf/programs`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lockstep.bpf.o"));

/// What the kernel must have been told of a map for this version to work with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

impl Definition {
    /// What differs in `other`, for people; empty if nothing does.
    pub(crate) fn differences(&self, other: &Self) -> String {
        let fields = [
            ("type", other.map_type, self.map_type),
            ("key size", other.key_size, self.key_size),
            ("value size", other.value_size, self.value_size),
            ("entries", other.max_entries, self.max_entries),
            ("flags", other.flags, self.flags),
        ];
        let differences: Vec<String> = fields
            .iter()
            .filter(|(_, found, needed)| found != needed)
            .map(|(name, found, needed)| format!("{name} is {found}, needed is {needed}"))
            .collect();
        differences.join(", ")
    }
}

/// The definitions in the object, by map name.
pub(crate) fn definitions() -> Result<BTreeMap<String, Definition>, DataplaneError> {
    let object = Object::parse(OBJECT).map_err(|error| DataplaneError::Load(error.to_string()))?;
    let define = |map: &aya_obj::Map| Definition {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
    };
    Ok(object.maps.iter().map(|(name, map)| (name.clone(), define(map))).collect())
}
