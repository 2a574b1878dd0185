//! Words in byte arrays. Every offset is a constant at its call and everything is inlined, so that no bounds
//! check is left for the verifier.

/// 32 bits as they lie in memory.
#[inline(always)]
pub(crate) const fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// 16 bits as they lie in memory.
#[inline(always)]
pub(crate) const fn half<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// An IPv6 address, network order.
#[inline(always)]
pub(crate) const fn address<const N: usize>(bytes: &[u8; N], at: usize) -> [u32; 4] {
    [word(bytes, at), word(bytes, at + 4), word(bytes, at + 8), word(bytes, at + 12)]
}

/// Writes 32 bits as they lie in memory.
#[inline(always)]
pub(crate) const fn put_word<const N: usize>(bytes: &mut [u8; N], at: usize, word: u32) {
    let [a, b, c, d] = word.to_ne_bytes();
    bytes[at] = a;
    bytes[at + 1] = b;
    bytes[at + 2] = c;
    bytes[at + 3] = d;
}

/// Writes 16 bits as they lie in memory.
#[inline(always)]
pub(crate) const fn put_half<const N: usize>(bytes: &mut [u8; N], at: usize, half: u16) {
    let [a, b] = half.to_ne_bytes();
    bytes[at] = a;
    bytes[at + 1] = b;
}

/// Writes an IPv6 address.
#[inline(always)]
pub(crate) const fn put_address<const N: usize>(bytes: &mut [u8; N], at: usize, address: [u32; 4]) {
    put_word(bytes, at, address[0]);
    put_word(bytes, at + 4, address[1]);
    put_word(bytes, at + 8, address[2]);
    put_word(bytes, at + 12, address[3]);
}
