//! Internet checksums (RFC 1071) of fixed-size arrays, in the convention of [`lockstep_abi::checksum`]:
//! unfolded 32-bit one's complement sums over words as they lie in memory.

use lockstep_abi::checksum::{add, fold};

/// Sum of an array's words. A last odd byte counts as if a zero followed.
#[inline(always)]
pub fn bytes<const N: usize>(bytes: &[u8; N]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum = 0u64;
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let last = match *rest {
        [a, b, c] => [a, b, c, 0],
        [a, b] => [a, b, 0, 0],
        [a] => [a, 0, 0, 0],
        _ => [0; 4],
    };
    sum += u64::from(u32::from_ne_bytes(last));
    add(sum as u32, (sum >> 32) as u32)
}

/// Sum of an IPv6 address.
#[inline(always)]
pub const fn address6(address: &[u32; 4]) -> u32 {
    add(add(address[0], address[1]), add(address[2], address[3]))
}

/// Sum of IPv6's pseudo header (RFC 8200, 8.1). `length_bytes` is that of the transport header and its payload,
/// extension headers not included.
#[inline(always)]
pub const fn pseudo6(
    source_be: &[u32; 4],
    destination_be: &[u32; 4],
    length_bytes: u32,
    protocol: u8,
) -> u32 {
    let addresses = add(address6(source_be), address6(destination_be));
    add(addresses, add(length_bytes.to_be(), (protocol as u32).to_be()))
}

/// The field that makes a sum right, as it lies in memory; the field itself counted as zero in the sum.
#[inline(always)]
pub const fn field(sum: u32) -> u16 {
    !fold(sum)
}

/// UDP's field after a difference: 0 says that there is no checksum, and a computed 0 is written as 0xffff.
#[inline(always)]
pub const fn apply_udp(field: u16, difference: u32) -> u16 {
    if field == 0 {
        return 0;
    }
    let new = lockstep_abi::checksum::apply(field, difference);
    if new == 0 { 0xffff } else { new }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 to the letter, big-endian words.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn same(data: &[u8], got: u32) {
        // 0 and 0xffff are one number.
        assert_eq!(u16::from_be(field(got)) % 0xffff, reference(data) % 0xffff);
    }

    #[test]
    fn a_known_header_has_its_known_checksum() {
        let header: [u8; 20] =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(field(bytes(&header)).to_ne_bytes(), [0xb8, 0x61]);
    }

    #[test]
    fn no_udp_checksum_stays_none_and_a_computed_one_is_never_zero() {
        assert_eq!(apply_udp(0, 0x1234), 0);
        // The difference that brings the field to zero.
        let difference = lockstep_abi::checksum::replace(0, u32::from(0x1234u16));
        assert_eq!(lockstep_abi::checksum::apply(0x1234, difference), 0);
        assert_eq!(apply_udp(0x1234, difference), 0xffff);
    }

    proptest! {
        #[test]
        fn every_length_equals_the_definition(data: [u8; 48]) {
            same(&data, bytes(&data));
            same(&data[..47], bytes::<47>(data[..47].try_into().unwrap()));
            same(&data[..46], bytes::<46>(data[..46].try_into().unwrap()));
            same(&data[..45], bytes::<45>(data[..45].try_into().unwrap()));
            same(&[], bytes(&[]));
        }

        #[test]
        fn the_pseudo_header_is_that_of_rfc_8200(source: [u8; 16], destination: [u8; 16], length: u16, protocol: u8) {
            let mut whole: Vec<u8> = Vec::new();
            whole.extend(source);
            whole.extend(destination);
            whole.extend(u32::from(length).to_be_bytes());
            whole.extend([0, 0, 0, protocol]);
            let source_be = crate::bytes::address(&source, 0);
            let destination_be = crate::bytes::address(&destination, 0);
            same(&whole, pseudo6(&source_be, &destination_be, u32::from(length), protocol));
        }
    }
}
