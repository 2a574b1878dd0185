//! Reading the log after a start: what it says, where it may be cut, and what is damage.

use std::collections::BTreeMap;
use std::path::Path;

use lockstep_proto::raft::v1 as pb;
use prost::Message;

use super::note;
use super::record::{Frame, Record, follows_durably};
use crate::codec;
use crate::error::StoreError;
use crate::fs::SharedFs;
use crate::types::Entry;

/// What the log says.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) vote: Option<pb::VoteState>,
    pub(crate) committed: Option<pb::LogId>,
    pub(crate) purged: Option<pb::LogId>,
    /// By index: contiguous, and all above `purged`. With their encoded lengths.
    pub(crate) entries: BTreeMap<u64, (Entry, usize)>,
}

/// How to go on writing.
#[derive(Debug)]
pub(super) struct Scan {
    /// Sequence and highest index, oldest first.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) start: pb::SegmentStart,
    /// Length up to which the last segment is good; `None`: begin a new one.
    pub(super) tail: Option<u64>,
    pub(super) next_sequence: u64,
    pub(super) torn_bytes: u64,
}

const SUFFIX: &str = ".wal";

pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The number in a segment's name; `None`: it is no segment's. `Err` is a number that cannot be read.
pub(crate) fn segment_sequence(name: &str) -> Option<Result<u64, std::num::ParseIntError>> {
    name.strip_suffix(SUFFIX).map(|number| u64::from_str_radix(number, 16))
}

pub(super) fn recover(fs: &SharedFs, dir: &Path) -> Result<(Recovered, Scan), StoreError> {
    let (recovered, scan) = replay(fs, dir)?;
    let next = recovered.purged.map_or(0, |id| id.index + 1);
    if let Some((&first, _)) = recovered.entries.first_key_value()
        && first != next
    {
        let oldest = dir.join(file_name(scan.segments.first().map_or(0, |(sequence, _)| *sequence)));
        return Err(StoreError::corrupt(&oldest, 0, format!("entries {next} to {} are missing", first - 1)));
    }
    Ok((recovered, scan))
}

fn replay(fs: &SharedFs, dir: &Path) -> Result<(Recovered, Scan), StoreError> {
    let names = fs.list(dir).map_err(StoreError::io(dir, "list"))?;
    let mut sequences = Vec::new();
    for name in &names {
        match segment_sequence(name) {
            Some(Ok(sequence)) => sequences.push(sequence),
            Some(Err(_)) => return Err(StoreError::corrupt(&dir.join(name), 0, "not a segment's name")),
            None => {}
        }
    }
    let mut replay = Replay::default();
    let mut segments = Vec::new();
    let mut torn_bytes = 0;
    for (i, &sequence) in sequences.iter().enumerate() {
        let path = dir.join(file_name(sequence));
        if i > 0 && sequences[i - 1] + 1 != sequence {
            let missing = dir.join(file_name(sequences[i - 1] + 1));
            return Err(StoreError::corrupt(&missing, 0, "the segment is missing"));
        }
        let bytes = fs.read(&path).map_err(StoreError::io(&path, "read"))?;
        let last = i + 1 == sequences.len();
        let good = replay.segment(&path, sequence, &bytes, last)?;
        torn_bytes = (bytes.len() - good) as u64;
        if good == 0 {
            // Its first record never became durable, so nothing was ever acknowledged from it.
            if i == 0 && sequence != 1 {
                return Err(StoreError::corrupt(&path, 0, "the only segment has no beginning"));
            }
            let scan =
                Scan { segments, start: replay.start, tail: None, next_sequence: sequence, torn_bytes };
            return Ok((replay.recovered, scan));
        }
        segments.push((sequence, replay.max_index));
        if last {
            let tail = Some(good as u64);
            let scan = Scan { segments, start: replay.start, tail, next_sequence: sequence + 1, torn_bytes };
            return Ok((replay.recovered, scan));
        }
    }
    Ok((replay.recovered, Scan { segments, start: replay.start, tail: None, next_sequence: 1, torn_bytes }))
}

#[derive(Debug, Default)]
struct Replay {
    recovered: Recovered,
    start: pb::SegmentStart,
    /// Of the segment read last.
    max_index: u64,
    begun: bool,
}

impl Replay {
    /// Reads one segment; the length up to which it is good.
    fn segment(&mut self, path: &Path, sequence: u64, bytes: &[u8], last: bool) -> Result<usize, StoreError> {
        self.max_index = 0;
        let mut at = 0;
        while at < bytes.len() {
            let frame = match Frame::at(bytes, at) {
                Ok(frame) => frame,
                Err(problem) if !last || follows_durably(bytes, at) => {
                    return Err(StoreError::corrupt(path, at, problem));
                }
                Err(_) => return Ok(at),
            };
            let record = frame.record().map_err(|problem| StoreError::corrupt(path, at, problem))?;
            self.record(at == 0, sequence, record)
                .map_err(|problem| StoreError::corrupt(path, at, problem))?;
            at = frame.end;
        }
        if at == 0 && !last {
            return Err(StoreError::corrupt(path, 0, "an empty segment that is not the last"));
        }
        Ok(at)
    }

    fn record(&mut self, first: bool, sequence: u64, record: Record) -> Result<(), String> {
        note(&mut self.start, &record);
        match (first, record) {
            (true, Record::Start(start)) if start.sequence == sequence => {
                if !self.begun {
                    self.recovered.vote = start.vote;
                    self.recovered.committed = start.committed;
                    self.recovered.purged = start.purged;
                    self.begun = true;
                }
                Ok(())
            }
            (true, Record::Start(start)) => Err(format!("it says it is segment {}", start.sequence)),
            (true, _) => Err("the first record is not a segment's beginning".into()),
            (false, Record::Start(_)) => Err("a segment's beginning in the middle of one".into()),
            (false, Record::Entry(entry)) => self.entry(entry),
            (false, Record::Vote(vote)) => {
                self.recovered.vote = Some(vote);
                Ok(())
            }
            (false, Record::Committed(committed)) => {
                self.recovered.committed = committed.log_id;
                Ok(())
            }
            (false, Record::Truncation(truncation)) => {
                let next = truncation.after.map_or(0, |id| id.index + 1);
                self.recovered.entries.split_off(&next);
                Ok(())
            }
            (false, Record::Purge(purge)) => {
                let next = purge.upto.map_or(0, |id| id.index + 1);
                self.recovered.entries = self.recovered.entries.split_off(&next);
                self.recovered.purged = purge.upto;
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: pb::Entry) -> Result<(), String> {
        let index = entry.log_id.as_ref().ok_or("an entry without an id")?.index;
        if let Some((&last, _)) = self.recovered.entries.last_key_value()
            && last + 1 != index
        {
            return Err(format!("entry {index} follows entry {last}"));
        }
        self.max_index = self.max_index.max(index);
        let size = entry.encoded_len();
        self.recovered.entries.insert(index, (codec::entry_from(entry).map_err(|e| e.to_string())?, size));
        Ok(())
    }
}
