//! SCTP packets and their checksum.

use anyhow::{Context, ensure};

const HEADER: usize = 12;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) from: u16,
    pub(super) to: u16,
    /// Verification tag.
    pub(super) tag: u32,
    pub(super) chunks: Vec<Chunk>,
}

/// One chunk, without its header and padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) bytes: Vec<u8>,
}

impl Chunk {
    /// Four bytes of it.
    pub(super) fn word(&self, at: usize) -> anyhow::Result<u32> {
        let bytes =
            self.bytes.get(at..at + 4).with_context(|| format!("chunk {} is too short", self.kind))?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }
}

impl Packet {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.to_be_bytes());
        bytes.extend(self.to.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        for chunk in &self.chunks {
            bytes.extend([chunk.kind, chunk.flags]);
            bytes.extend((chunk.bytes.len() as u16 + 4).to_be_bytes());
            bytes.extend(&chunk.bytes);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let sum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Refuses a packet whose checksum is wrong.
    pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        ensure!(bytes.len() >= HEADER, "a packet of {} bytes", bytes.len());
        let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let sum = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        let mut cleared = bytes.to_vec();
        cleared[8..12].fill(0);
        ensure!(crc32c(&cleared) == sum, "the checksum is {sum:#x}, not {:#x}", crc32c(&cleared));
        let mut chunks = Vec::new();
        let mut at = HEADER;
        while at < bytes.len() {
            ensure!(bytes.len() >= at + 4, "half a chunk");
            let length = usize::from(half(at + 2));
            let body = bytes.get(at + 4..at + length).context("a chunk beyond the packet's end")?;
            chunks.push(Chunk { kind: bytes[at], flags: bytes[at + 1], bytes: body.to_vec() });
            at = (at + length).next_multiple_of(4);
        }
        let tag = u32::from_be_bytes(bytes[4..8].try_into().expect("four bytes"));
        Ok(Packet { from: half(0), to: half(2), tag, chunks })
    }
}

/// CRC32c (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_packet_is_read_as_written_and_an_altered_one_is_refused() {
        let chunk = Chunk { kind: 0, flags: 3, bytes: vec![7; 13] };
        let packet = Packet { from: 1, to: 2, tag: 3, chunks: vec![chunk.clone(), chunk] };
        let mut bytes = packet.encode();
        assert_eq!(Packet::decode(&bytes).unwrap(), packet);
        bytes[3] ^= 1;
        assert!(Packet::decode(&bytes).is_err());
    }
}
