//! The maps of a loaded instance, by name, with the sizes of keys and values checked.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::{Ebpf, Pod};
use aya_obj::generated::{bpf_cmd, bpf_map_type};

use crate::sys;

struct Entry {
    fd: OwnedFd,
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

impl Entry {
    fn is(&self, kinds: &[bpf_map_type]) -> bool {
        kinds.iter().any(|kind| *kind as u32 == self.map_type)
    }
}

/// All maps of an instance.
pub(crate) struct Tables(BTreeMap<String, Entry>);

/// One of them, of `K` to `V`.
pub(crate) struct Table<'a, K, V> {
    name: &'a str,
    entry: &'a Entry,
    types: PhantomData<fn(K) -> V>,
}

impl Tables {
    pub(crate) fn of(ebpf: &Ebpf) -> Self {
        let entry = |map: &aya::maps::Map| {
            let fd = map_data(map)?.fd().as_fd().try_clone_to_owned().unwrap();
            let info = sys::map_info(fd.as_fd()).unwrap();
            let (map_type, key_size, value_size) = (info.type_, info.key_size, info.value_size);
            Some(Entry { fd, map_type, key_size, value_size, max_entries: info.max_entries })
        };
        let named = ebpf.maps().filter(|(name, _)| !name.starts_with('.'));
        Self(named.filter_map(|(name, map)| Some((name.to_owned(), entry(map)?))).collect())
    }

    fn entry(&self, name: &str) -> &Entry {
        self.0.get(name).unwrap_or_else(|| panic!("the object has no map {name}"))
    }

    pub(crate) fn fd(&self, name: &str) -> BorrowedFd<'_> {
        self.entry(name).fd.as_fd()
    }

    pub(crate) fn table<'a, K: Pod, V: Pod>(&'a self, name: &'a str) -> Table<'a, K, V> {
        let entry = self.entry(name);
        assert_eq!(entry.key_size as usize, size_of::<K>(), "key of {name}");
        assert_eq!(entry.value_size as usize, size_of::<V>(), "value of {name}");
        Table { name, entry, types: PhantomData }
    }

    /// Makes every map as it was when it was new. The ring and the counters are the reader's affair.
    pub(crate) fn clear(&self) {
        use bpf_map_type::{
            BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_HASH,
        };
        for entry in self.0.values() {
            if entry.is(&[BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_HASH]) {
                clear_keys(entry);
            } else if entry.is(&[BPF_MAP_TYPE_ARRAY]) {
                clear_array(entry);
            }
        }
    }
}

fn map_data(map: &aya::maps::Map) -> Option<&aya::maps::MapData> {
    use aya::maps::Map;
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::LruHashMap(data)
        | Map::ProgramArray(data) => Some(data),
        _ => None,
    }
}

fn clear_keys(entry: &Entry) {
    let mut key = vec![0u8; entry.key_size as usize];
    // SAFETY: the buffer is of the key's size; from the beginning each time, since the key found is deleted.
    while unsafe { sys::next_key(entry.fd.as_fd(), std::ptr::null(), key.as_mut_ptr()) }.is_ok() {
        // SAFETY: the same.
        unsafe { sys::delete(entry.fd.as_fd(), key.as_ptr()) }.unwrap();
    }
}

fn clear_array(entry: &Entry) {
    let mut keys: Vec<u32> = (0..entry.max_entries).collect();
    let mut zeroes = vec![0u8; (entry.value_size.next_multiple_of(8) * entry.max_entries) as usize];
    let buffers = (keys.as_mut_ptr().cast(), zeroes.as_mut_ptr());
    let cursors = (std::ptr::null(), std::ptr::null_mut());
    // SAFETY: room for as many keys and values as there are.
    let (done, result) = unsafe {
        let command = bpf_cmd::BPF_MAP_UPDATE_BATCH;
        sys::batch(command, entry.fd.as_fd(), cursors, buffers, entry.max_entries, sys::ANY)
    };
    result.unwrap();
    assert_eq!(done, entry.max_entries);
}

impl<K: Pod, V: Pod> Table<'_, K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: the sizes were compared, and these maps are not per CPU.
        let found = unsafe {
            sys::lookup(self.entry.fd.as_fd(), std::ptr::from_ref(key).cast(), value.as_mut_ptr().cast())
        };
        match found {
            // SAFETY: the kernel wrote the whole value, and any bytes are a `V`.
            Ok(()) => Some(unsafe { value.assume_init() }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    pub(crate) fn put(&self, key: &K, value: &V) {
        self.try_put(key, value, sys::ANY).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub(crate) fn try_put(&self, key: &K, value: &V, flags: u64) -> std::io::Result<()> {
        let (key, value) = (std::ptr::from_ref(key).cast(), std::ptr::from_ref(value).cast());
        // SAFETY: the sizes were compared.
        unsafe { sys::update(self.entry.fd.as_fd(), key, value, flags) }
    }

    /// Writes many by one call, as fast as the kernel can.
    pub(crate) fn put_all(&self, keys: &[K], values: &[V]) {
        assert_eq!(keys.len(), values.len(), "a value for each key");
        let buffers = (keys.as_ptr().cast_mut().cast(), values.as_ptr().cast_mut().cast());
        let (cursors, command) = ((std::ptr::null(), std::ptr::null_mut()), bpf_cmd::BPF_MAP_UPDATE_BATCH);
        let count = keys.len() as u32;
        // SAFETY: the sizes were compared, and an update only reads.
        let (_, result) =
            unsafe { sys::batch(command, self.entry.fd.as_fd(), cursors, buffers, count, sys::ANY) };
        result.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub(crate) fn remove(&self, key: &K) {
        self.try_remove(key).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub(crate) fn try_remove(&self, key: &K) -> std::io::Result<()> {
        // SAFETY: the sizes were compared.
        unsafe { sys::delete(self.entry.fd.as_fd(), std::ptr::from_ref(key).cast()) }
    }

    /// Reads, changes and writes an element that there is.
    pub(crate) fn change(&self, key: &K, change: impl FnOnce(&mut V)) {
        let mut value = self.get(key).unwrap_or_else(|| panic!("{} has no such element", self.name));
        change(&mut value);
        self.put(key, &value);
    }

    /// Every element. Of a map that nobody changes meanwhile.
    pub(crate) fn entries(&self) -> Vec<(K, V)> {
        let mut entries: Vec<(K, V)> = Vec::new();
        loop {
            let mut next = MaybeUninit::<K>::uninit();
            let from = entries.last().map_or(std::ptr::null(), |(key, _)| std::ptr::from_ref(key).cast());
            // SAFETY: the sizes were compared.
            if unsafe { sys::next_key(self.entry.fd.as_fd(), from, next.as_mut_ptr().cast()) }.is_err() {
                return entries;
            }
            // SAFETY: the kernel wrote the whole key, and any bytes are a `K`.
            let key = unsafe { next.assume_init() };
            let value = self.get(&key).unwrap_or_else(|| panic!("{} changed under the walk", self.name));
            entries.push((key, value));
        }
    }
}
