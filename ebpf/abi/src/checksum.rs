//! Differences of Internet checksums (RFC 1624), in the kernel's convention: unfolded 32-bit one's complement
//! sums over words as they lie in memory, which `bpf_l3_csum_replace` and `bpf_l4_csum_replace` take as `to`
//! with a field size of zero.

/// One's complement addition. Without a branch, of which the verifier would follow both ways each time.
#[inline(always)]
pub const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// The difference that replacing `from` by `to` makes.
#[inline(always)]
pub const fn replace(from: u32, to: u32) -> u32 {
    add(!from, to)
}

/// Folds the plain sum of some 32-bit words (as many as fit) to 16 bits, not complemented. For sums of many words:
/// without a carry at each step, of which the verifier would follow both ways.
#[inline(always)]
pub const fn fold_wide(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Folds a sum to 16 bits, not complemented.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// Applies a difference to a checksum field, as the kernel's `csum_replace_by_diff` does.
#[inline(always)]
pub const fn apply(field: u16, difference: u32) -> u16 {
    !fold(add(difference, !(field as u32)))
}
