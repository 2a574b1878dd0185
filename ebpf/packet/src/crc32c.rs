//! SCTP's checksum (RFC 9260, appendix A; RFC 4960, appendix B) after a change of the ports, without reading the
//! packet.
//!
//! CRC is linear: the CRCs of two packets of one length differ by the CRC, without its initial and final
//! complement, of the difference of the packets. Here that is four bytes followed by zeros, and a zero byte
//! multiplies a CRC by x^8 modulo the polynomial. So n bytes multiply by x^(8n), which is a product of the powers
//! x^(8·2^k) for the bits k of n: [`BITS`] multiplications of 32 steps, all bounded, and half of them skipped.

/// The polynomial of Castagnoli, least significant bit first: bit 31 is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// How many bits a packet's length has.
pub const BITS: u32 = 16;

/// The checksum of an SCTP packet of `length_bytes` (header and chunks with their padding: IP's payload) whose first
/// four bytes, the ports, change. All as the bytes lie in the packet. No more than 2^16 - 1 bytes: an aggregate has no
/// checksum yet.
#[inline(always)]
pub const fn ports_changed(checksum: [u8; 4], from: [u8; 4], to: [u8; 4], length_bytes: u32) -> [u8; 4] {
    let difference = u32::from_le_bytes(from) ^ u32::from_le_bytes(to);
    // The CRC lies in the packet with its least significant byte first.
    (u32::from_le_bytes(checksum) ^ advance(difference, length_bytes)).to_le_bytes()
}

/// A CRC's value after `count` (less than 2^16) further bytes of zero.
#[inline(always)]
pub const fn advance(crc: u32, count: u32) -> u32 {
    let mut crc = crc;
    crc = advance_power::<0>(crc, count);
    crc = advance_power::<1>(crc, count);
    crc = advance_power::<2>(crc, count);
    crc = advance_power::<3>(crc, count);
    crc = advance_power::<4>(crc, count);
    crc = advance_power::<5>(crc, count);
    crc = advance_power::<6>(crc, count);
    crc = advance_power::<7>(crc, count);
    crc = advance_power::<8>(crc, count);
    crc = advance_power::<9>(crc, count);
    crc = advance_power::<10>(crc, count);
    crc = advance_power::<11>(crc, count);
    crc = advance_power::<12>(crc, count);
    crc = advance_power::<13>(crc, count);
    crc = advance_power::<14>(crc, count);
    advance_power::<15>(crc, count)
}

/// 2^K bytes of zero, if that bit of `count` is set. The factor is a constant in the code, not in a table: eBPF would
/// read that from a map.
#[inline(always)]
const fn advance_power<const K: u32>(crc: u32, count: u32) -> u32 {
    if count >> K & 1 == 0 { crc } else { multiply(const { power(K) }, crc) }
}

/// x^(8·2^k).
const fn power(k: u32) -> u32 {
    // x^8: bit 31 is x^0.
    let mut power = 1 << (31 - 8);
    let mut squared = 0;
    while squared < k {
        power = multiply(power, power);
        squared += 1;
    }
    power
}

/// a·b modulo the polynomial.
#[inline(always)]
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut b, mut bit) = (0, b, 0);
    while bit < 32 {
        // Masks and not branches: fewer ways for the verifier.
        product ^= b & 0u32.wrapping_sub(a >> (31 - bit) & 1);
        b = b >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(b & 1);
        bit += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    /// The packet with its checksum, as a sender makes it: the field is zero while it is computed.
    fn seal(packet: &mut [u8]) {
        packet[8..12].fill(0);
        let crc = ::crc32c::crc32c(packet);
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn zeros_one_by_one_are_zeros_at_once() {
        // The definition: eight shifts a byte.
        let byte = |crc: u32| (0..8).fold(crc, |crc, _| crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 });
        for start in [1, 0x8000_0000, 0xdead_beef] {
            let mut crc = start;
            for count in 0..=0xffffu32 {
                if count.is_power_of_two() || count % 997 == 0 || count == 0xffff {
                    assert_eq!(advance(start, count), crc, "{start:#x} {count}");
                }
                crc = byte(crc);
            }
        }
    }

    #[test]
    fn known_checksums_follow_each_other() {
        // An INIT of 32 bytes from port 40000 to 2905, and the same to 9879: computed bit by bit, elsewhere.
        let new =
            ports_changed([0xf2, 0xf2, 0x5d, 0xbb], [0x9c, 0x40, 0x0b, 0x59], [0x9c, 0x40, 0x26, 0x97], 32);
        assert_eq!(new, [0xc1, 0x9a, 0xb5, 0x0c]);
    }

    proptest! {
        #[test]
        fn changed_ports_equal_a_full_computation(mut packet in prop::collection::vec(any::<u8>(), 12..3000), ports: [u8; 4]) {
            seal(&mut packet);
            let from: [u8; 4] = packet[..4].try_into().unwrap();
            let old: [u8; 4] = packet[8..12].try_into().unwrap();
            let new = ports_changed(old, from, ports, packet.len() as u32);
            packet[..4].copy_from_slice(&ports);
            seal(&mut packet);
            prop_assert_eq!(&packet[8..12], &new[..]);
        }

        #[test]
        fn advancing_is_additive_and_linear(a: u32, b: u32, m in 0u32..0x8000, n in 0u32..0x8000) {
            prop_assert_eq!(advance(advance(a, m), n), advance(a, m + n));
            prop_assert_eq!(advance(a, m) ^ advance(b, m), advance(a ^ b, m));
        }
    }
}
