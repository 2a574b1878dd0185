//! A pinned map with the types of its key and value. Every handle is opened from a pin, so the daemon that
//! loaded the programs and a tool that only looks read the same way.

use std::io;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::Pod;
use aya_obj::generated::bpf_cmd;

use crate::sys;

/// Entries that the kernel is asked for at once. Without kernel preemption nothing else runs on the processor meanwhile, no
/// packet's reader either.
const AT_ONCE: usize = 128;

/// A map of `K` to `V`.
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

/// Where a batch walk stands: the kernel's cursor of a hash map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashCursor(u32);

impl<K: Pod, V: Pod> Map<K, V> {
    /// Opens the pin and checks that it holds what the types say: the kernel copies as many bytes as *it* thinks.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = sys::object_get(path)?;
        let info = sys::map_info(fd.as_fd())?;
        if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "has keys of {} and values of {} bytes, this version needs {} and {}",
                    info.key_size,
                    info.value_size,
                    size_of::<K>(),
                    size_of::<V>()
                ),
            ));
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// How many entries there is room for.
    pub(crate) fn capacity(&self) -> io::Result<u32> {
        Ok(sys::map_info(self.fd.as_fd())?.max_entries)
    }

    /// About how much of a hash map lies before `cursor`, 0 to 1.
    pub(crate) fn share(&self, cursor: HashCursor) -> f64 {
        // The kernel makes as many buckets as the next power of two.
        let buckets = self.capacity().map_or(1, |entries| u64::from(entries).next_power_of_two());
        (f64::from(cursor.0) / buckets as f64).min(1.0)
    }

    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: sizes were compared in `open`, and these maps are not per CPU.
        let result = unsafe {
            sys::lookup(self.fd.as_fd(), std::ptr::from_ref(key).cast(), value.as_mut_ptr().cast())
        };
        match result {
            // SAFETY: the kernel wrote the whole value, and any bytes are a `V`.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn put(&self, key: &K, value: &V, flags: u64) -> io::Result<()> {
        // SAFETY: sizes were compared in `open`.
        unsafe {
            sys::update(
                self.fd.as_fd(),
                std::ptr::from_ref(key).cast(),
                std::ptr::from_ref(value).cast(),
                flags,
            )
        }
    }

    /// Whether there was one to delete.
    pub(crate) fn remove(&self, key: &K) -> io::Result<bool> {
        // SAFETY: sizes were compared in `open`.
        match unsafe { sys::delete(self.fd.as_fd(), std::ptr::from_ref(key).cast()) } {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every entry, for small maps that only this process changes.
    pub(crate) fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut key: Option<K> = None;
        loop {
            let mut next = MaybeUninit::<K>::uninit();
            let from = key.as_ref().map_or(std::ptr::null(), |key| std::ptr::from_ref(key).cast());
            // SAFETY: sizes were compared in `open`.
            match unsafe { sys::next_key(self.fd.as_fd(), from, next.as_mut_ptr().cast()) } {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(entries),
                Err(error) => return Err(error),
            }
            // SAFETY: the kernel wrote the whole key, and any bytes are a `K`.
            let next = unsafe { next.assume_init() };
            if let Some(value) = self.get(&next)? {
                entries.push((next, value));
            }
            key = Some(next);
        }
    }

    /// Writes all, in order. Answers how many were written and why it stopped.
    pub(crate) fn put_all(&self, keys: &[K], values: &[V], flags: u64) -> (usize, io::Result<()>) {
        assert_eq!(keys.len(), values.len(), "a value for each key");
        if keys.is_empty() {
            return (0, Ok(()));
        }
        let cursors = (std::ptr::null(), std::ptr::null_mut());
        let buffers = (keys.as_ptr().cast_mut().cast(), values.as_ptr().cast_mut().cast());
        // SAFETY: both buffers hold `keys.len()` elements, which an update only reads.
        let (done, result) = unsafe {
            sys::batch(
                bpf_cmd::BPF_MAP_UPDATE_BATCH,
                self.fd.as_fd(),
                cursors,
                buffers,
                keys.len() as u32,
                flags,
            )
        };
        match result {
            Ok(()) => (keys.len(), Ok(())),
            // Errors found before the first element leave the count as it was given.
            Err(error) if done as usize >= keys.len() => (0, Err(error)),
            Err(error) => (done as usize, Err(error)),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<V: Pod> Map<u32, V> {
    /// `count` elements of an array from `first` on; fewer at the array's end.
    pub(crate) fn slice(&self, first: u32, count: usize) -> io::Result<Vec<V>> {
        let mut keys: Vec<u32> = Vec::with_capacity(count);
        let mut values: Vec<V> = Vec::with_capacity(count);
        if count == 0 {
            return Ok(values);
        }
        // An array's cursor is the last key done; none: from the start.
        let before = first.checked_sub(1);
        let mut out = 0u32;
        let input = before.as_ref().map_or(std::ptr::null(), |key| std::ptr::from_ref(key).cast());
        let cursors = (input, std::ptr::from_mut(&mut out).cast());
        let buffers = (keys.as_mut_ptr().cast(), values.as_mut_ptr().cast());
        // SAFETY: both have room for `count`, and the cursor is a key.
        let (done, result) = unsafe {
            sys::batch(bpf_cmd::BPF_MAP_LOOKUP_BATCH, self.fd.as_fd(), cursors, buffers, count as u32, 0)
        };
        match result {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
        // SAFETY: the kernel filled this many, and any bytes are a `V`.
        unsafe { values.set_len(done as usize) };
        Ok(values)
    }
}

impl<K: Pod, V: Pod> Map<K, V> {
    /// One page of a hash map, in the place of what `page` held; at least a whole bucket, about `count` entries. `None`: that
    /// was the last.
    ///
    /// Entries that come or go meanwhile may be missed; one that stays is seen exactly once.
    pub(crate) fn page(
        &self,
        mut cursor: Option<HashCursor>,
        count: usize,
        page: &mut Page<K, V>,
    ) -> io::Result<Option<HashCursor>> {
        page.clear();
        loop {
            cursor = self.append(cursor, (count - page.len()).min(AT_ONCE), page)?;
            if cursor.is_none() || page.len() >= count {
                return Ok(cursor);
            }
        }
    }

    /// What one call of the kernel reads.
    fn append(
        &self,
        mut cursor: Option<HashCursor>,
        mut count: usize,
        page: &mut Page<K, V>,
    ) -> io::Result<Option<HashCursor>> {
        loop {
            let (keys, values) = page.room(count);
            let mut out = 0u32;
            let input =
                cursor.as_mut().map_or(std::ptr::null(), |cursor| std::ptr::from_ref(&cursor.0).cast());
            let cursors = (input, std::ptr::from_mut(&mut out).cast());
            let buffers = (keys.cast(), values.cast());
            // SAFETY: `room` made room for `count` of each; a hash map's cursor is a bucket number of four bytes.
            let (done, result) = unsafe {
                sys::batch(bpf_cmd::BPF_MAP_LOOKUP_BATCH, self.fd.as_fd(), cursors, buffers, count as u32, 0)
            };
            let (done, next) = match result {
                Ok(()) => (done, Some(HashCursor(out))),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => (done, None),
                // One bucket holds more than `count`: nothing was copied.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    count *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let length = page.len() + done as usize;
            // SAFETY: the kernel filled this many more of both, and any bytes are a `K` and a `V`.
            unsafe {
                page.keys.set_len(length);
                page.values.set_len(length);
            }
            return Ok(next);
        }
    }
}

impl<K: Pod, V: Pod> Map<K, V> {
    /// Every entry of a hash map that only this process changes, in few system calls.
    pub(crate) fn hash_entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut page = Page::new();
        let mut entries = Vec::new();
        let mut cursor = None;
        loop {
            cursor = self.page(cursor, 1024, &mut page)?;
            entries.extend(page.iter().map(|(key, value)| (*key, *value)));
            if cursor.is_none() {
                return Ok(entries);
            }
        }
    }
}

/// Room for a page of a walk, reused from one to the next.
pub(crate) struct Page<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Pod, V: Pod> Page<K, V> {
    pub(crate) fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    /// Where `count` more keys and values go.
    fn room(&mut self, count: usize) -> (*mut K, *mut V) {
        self.keys.reserve(count);
        self.values.reserve(count);
        (
            self.keys.spare_capacity_mut().as_mut_ptr().cast(),
            self.values.spare_capacity_mut().as_mut_ptr().cast(),
        )
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.keys.iter().zip(&self.values)
    }
}
