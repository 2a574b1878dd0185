//! One record of a segment: `len | crc32c | synced | kind | payload`, integers little-endian.
//!
//! `len` counts the payload, the checksum covers everything but itself. `synced` is the length of the segment
//! that was durable when the record was written: it tells a torn tail, where nothing that follows can have
//! counted on the bytes before it, from damage to bytes that had been acknowledged.

use lockstep_proto::raft::v1 as pb;
use prost::Message;

/// Bytes before the payload.
pub(super) const HEADER: usize = 13;

/// A record's payload, at most. Anything above it is not a length that was written.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Start(pb::SegmentStart),
    Entry(pb::Entry),
    Vote(pb::VoteState),
    Committed(pb::Committed),
    Truncation(pb::Truncation),
    Purge(pb::Purge),
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Record::Start(_) => 1,
            Record::Entry(_) => 2,
            Record::Vote(_) => 3,
            Record::Committed(_) => 4,
            Record::Truncation(_) => 5,
            Record::Purge(_) => 6,
        }
    }

    /// Appends the record's bytes. The payload's length, if it is more than a record may hold.
    pub(super) fn encode(&self, synced: u32, out: &mut Vec<u8>) -> Result<(), usize> {
        let at = out.len();
        out.resize(at + HEADER, 0);
        let encoded = match self {
            Record::Start(m) => m.encode(out),
            Record::Entry(m) => m.encode(out),
            Record::Vote(m) => m.encode(out),
            Record::Committed(m) => m.encode(out),
            Record::Truncation(m) => m.encode(out),
            Record::Purge(m) => m.encode(out),
        };
        encoded.expect("a vector grows as needed");
        let len = out.len() - at - HEADER;
        if len > MAX_PAYLOAD {
            out.truncate(at);
            return Err(len);
        }
        out[at..at + 4].copy_from_slice(&(len as u32).to_le_bytes());
        out[at + 8..at + 12].copy_from_slice(&synced.to_le_bytes());
        out[at + 12] = self.kind();
        let crc = checksum(&out[at..]);
        out[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Record, String> {
        let record = match kind {
            1 => pb::SegmentStart::decode(payload).map(Record::Start),
            2 => pb::Entry::decode(payload).map(Record::Entry),
            3 => pb::VoteState::decode(payload).map(Record::Vote),
            4 => pb::Committed::decode(payload).map(Record::Committed),
            5 => pb::Truncation::decode(payload).map(Record::Truncation),
            6 => pb::Purge::decode(payload).map(Record::Purge),
            other => return Err(format!("record of unknown kind {other}; this version knows 1-6")),
        };
        record.map_err(|e| e.to_string())
    }
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A record whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) synced: usize,
    pub(crate) end: usize,
    kind: u8,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The record at `at`, or what is wrong there.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Result<Frame<'a>, &'static str> {
        let rest = &bytes[at..];
        if rest.len() < HEADER {
            return Err("the file ends within a record's header");
        }
        let len = u32_at(rest, 0) as usize;
        if len > MAX_PAYLOAD {
            return Err("a record's length is out of bounds");
        }
        if rest.len() < HEADER + len {
            return Err("the file ends within a record");
        }
        let record = &rest[..HEADER + len];
        if u32_at(record, 4) != checksum(record) {
            return Err("a record's checksum is wrong");
        }
        Ok(Frame {
            synced: u32_at(record, 8) as usize,
            end: at + HEADER + len,
            kind: record[12],
            payload: &record[HEADER..],
        })
    }

    pub(crate) fn record(&self) -> Result<Record, String> {
        Record::decode(self.kind, self.payload)
    }
}

/// Where records might begin after the bad one at `bad`, and those that are there: from every byte on, because the bad
/// record's length cannot be trusted.
pub(crate) fn frames_after(bytes: &[u8], bad: usize) -> impl Iterator<Item = (usize, Frame<'_>)> {
    (bad + 1..bytes.len().saturating_sub(HEADER - 1))
        // The kind first: it rules out most positions for the price of one comparison.
        .filter(|at| (1..=6).contains(&bytes[at + 12]))
        .filter_map(|at| Some((at, Frame::at(bytes, at).ok()?)))
}

/// Whether a record after the bad one at `bad` was written when `bad` was already durable.
pub(super) fn follows_durably(bytes: &[u8], bad: usize) -> bool {
    frames_after(bytes, bad).any(|(at, frame)| frame.synced > bad && frame.synced <= at)
}
