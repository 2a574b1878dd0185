//! Which kernel brought what. From `include/uapi/linux/bpf.h` of each release: helpers are numbered in the order
//! in which they were merged, so the last number of a release says it of all.

use std::fmt;

use serde::{Serialize, Serializer};

/// A kernel release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The long-term kernels that operators still run.
pub(crate) const ASKED: [Version; 3] = [Version(5, 15), Version(6, 1), Version(6, 6)];

/// The last helper of each release that brought any.
const LAST_HELPER: &[(Version, u32)] = &[
    (Version(3, 19), 3),
    (Version(4, 1), 11),
    (Version(4, 2), 16),
    (Version(4, 3), 22),
    (Version(4, 4), 25),
    (Version(4, 5), 26),
    (Version(4, 6), 30),
    (Version(4, 8), 36),
    (Version(4, 9), 41),
    (Version(4, 10), 44),
    (Version(4, 11), 45),
    (Version(4, 12), 47),
    (Version(4, 13), 50),
    (Version(4, 14), 53),
    (Version(4, 15), 57),
    (Version(4, 16), 59),
    (Version(4, 17), 64),
    (Version(4, 18), 80),
    (Version(4, 19), 83),
    (Version(4, 20), 90),
    (Version(5, 0), 92),
    (Version(5, 1), 98),
    (Version(5, 2), 108),
    (Version(5, 3), 110),
    (Version(5, 5), 115),
    (Version(5, 6), 118),
    (Version(5, 7), 124),
    (Version(5, 8), 135),
    (Version(5, 9), 141),
    (Version(5, 10), 155),
    (Version(5, 11), 162),
    (Version(5, 12), 163),
    (Version(5, 13), 165),
    (Version(5, 14), 168),
    (Version(5, 15), 175),
    (Version(5, 16), 179),
    (Version(5, 17), 185),
    (Version(5, 18), 193),
    (Version(5, 19), 203),
    (Version(6, 0), 207),
    (Version(6, 1), 209),
    (Version(6, 2), 211),
];

/// Since when a helper is there; none: younger than this table.
pub(crate) fn helper(number: u32) -> Option<Version> {
    LAST_HELPER.iter().find(|(_, last)| number <= *last).map(|(version, _)| *version)
}

/// Since when a map type (by its number) is there, and its name.
pub(crate) fn map_type(number: u32) -> Option<(&'static str, Version)> {
    MAP_TYPES.get(number as usize).copied()
}

/// By number: `enum bpf_map_type`.
const MAP_TYPES: &[(&str, Version)] = &[
    ("unspecified map", Version(3, 19)),
    ("hash map", Version(3, 19)),
    ("array", Version(3, 19)),
    ("program array", Version(4, 2)),
    ("perf event array", Version(4, 3)),
    ("per-CPU hash map", Version(4, 6)),
    ("per-CPU array", Version(4, 6)),
    ("stack trace map", Version(4, 6)),
    ("cgroup array", Version(4, 8)),
    ("LRU hash map", Version(4, 10)),
    ("per-CPU LRU hash map", Version(4, 10)),
    ("LPM trie", Version(4, 11)),
    ("array of maps", Version(4, 12)),
    ("hash of maps", Version(4, 12)),
    ("device map", Version(4, 14)),
    ("socket map", Version(4, 14)),
    ("CPU map", Version(4, 15)),
    ("XSK map", Version(4, 18)),
    ("socket hash", Version(4, 18)),
    ("cgroup storage", Version(4, 19)),
    ("reuseport array", Version(4, 19)),
    ("per-CPU cgroup storage", Version(4, 20)),
    ("queue", Version(4, 20)),
    ("stack", Version(4, 20)),
    ("socket storage", Version(5, 2)),
    ("device hash map", Version(5, 4)),
    ("struct ops map", Version(5, 6)),
    ("ring buffer", Version(5, 8)),
    ("inode storage", Version(5, 10)),
    ("task storage", Version(5, 11)),
    ("bloom filter", Version(5, 16)),
    ("user ring buffer", Version(6, 1)),
    ("cgroup local storage", Version(6, 2)),
    ("arena", Version(6, 9)),
];

/// Map flags, by bit, that are younger than the maps they are for.
pub(crate) const MAP_FLAGS: &[(u32, &str, Version)] = &[
    (1 << 7, "map that programs only read (BPF_F_RDONLY_PROG)", Version(5, 2)),
    (1 << 10, "array mapped into user space (BPF_F_MMAPABLE)", Version(5, 5)),
    (1 << 11, "map whose elements are not moved (BPF_F_PRESERVE_ELEMS)", Version(5, 10)),
];

/// What the loader asks of the kernel beside loading programs, and where.
pub(crate) const LOADER: &[(&str, Version)] = &[
    ("tcx links (BPF_LINK_CREATE with BPF_TCX_INGRESS)", Version(6, 6)),
    ("batch operations on hash maps (BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH)", Version(5, 6)),
    ("replacing the program of a link (BPF_LINK_UPDATE)", Version(5, 7)),
    ("detaching a link (BPF_LINK_DETACH)", Version(5, 9)),
    ("an interface's number in test-run's context of tc (ctx_in of BPF_PROG_TEST_RUN)", Version(5, 2)),
];

/// The same, when there are XDP programs.
pub(crate) const LOADER_XDP: &[(&str, Version)] = &[("XDP links", Version(5, 9))];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order() {
        assert!(LAST_HELPER.windows(2).all(|two| two[0] < two[1] && two[0].1 < two[1].1));
        assert!(ASKED.windows(2).all(|two| two[0] < two[1]));
    }

    #[test]
    fn known_helpers_have_their_release() {
        for (number, expected) in [
            (1, Version(3, 19)),   // map_lookup_elem
            (28, Version(4, 6)),   // csum_diff
            (69, Version(4, 18)),  // fib_lookup
            (118, Version(5, 6)),  // jiffies64
            (131, Version(5, 8)),  // ringbuf_reserve
            (152, Version(5, 10)), // redirect_neigh
            (160, Version(5, 11)), // ktime_get_coarse_ns
            (163, Version(5, 12)), // check_mtu
            (181, Version(5, 17)), // loop
            (189, Version(5, 18)), // xdp_load_bytes
        ] {
            assert_eq!(helper(number), Some(expected), "helper {number}");
        }
        assert_eq!(helper(100_000), None);
        assert_eq!(map_type(27), Some(("ring buffer", Version(5, 8))));
        assert_eq!(map_type(1000), None);
    }
}
