//! What a data directory holds, record by record, for people who must find out what happened. It takes no lock, writes
//! nothing, and goes on behind damage: what it prints is what is there, not what a node would make of it.

use std::path::{Path, PathBuf};

use lockstep_proto::raft::v1 as pb;
use serde::Serialize;

use crate::codec;
use crate::envelope;
use crate::error::StoreError;
use crate::fs::SharedFs;
use crate::layout::{self, DataDir};
use crate::snapshot::{self, Image};
use crate::types::{LogId, Payload};
use crate::wal::record::{Frame, Record, frames_after};
use crate::wal::segment_sequence;

/// One piece of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The file, relative to the data directory.
    pub file: PathBuf,
    /// Where the piece begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// What it says.
    #[serde(flatten)]
    pub what: What,
}

/// The position of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The term it was written in.
    pub term: u64,
    /// The leader that wrote it.
    pub leader: u64,
    /// Its index.
    pub index: u64,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// For whom.
    pub node: u64,
    /// Whether that node is known to lead.
    pub committed: bool,
}

/// What a piece says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A segment begins, with what the ones before it had established.
    Start {
        /// Its number.
        sequence: u64,
        /// The vote.
        vote: Option<Vote>,
        /// The highest entry known to be committed.
        committed: Option<Position>,
        /// The last entry that is only in a snapshot.
        purged: Option<Position>,
        /// The last entry before the segment.
        last: Option<Position>,
    },
    /// A log entry.
    Entry {
        /// Where in the log.
        #[serde(flatten)]
        at: Position,
        /// What it says, for people.
        says: String,
        /// The length of the segment that was durable when it was written.
        synced: u64,
    },
    /// A vote.
    Vote(Vote),
    /// Entries up to here are known to be committed.
    Committed {
        /// Absent: none.
        upto: Option<Position>,
    },
    /// Entries after this are void.
    Truncation {
        /// Absent: all of them.
        after: Option<Position>,
    },
    /// Entries up to here are in a snapshot.
    Purge {
        /// Absent: none.
        upto: Option<Position>,
    },
    /// A snapshot.
    Snapshot {
        /// The last entry in it.
        last: Option<Position>,
        /// The voters, or both sets of them while the membership is joint.
        voters: Vec<Vec<u64>>,
        /// The revision of the intent.
        revision: u64,
        /// How many groups there are.
        groups: usize,
        /// How many services there are.
        services: usize,
        /// How many nodes are registered.
        nodes: usize,
    },
    /// Who the node is.
    Identity {
        /// The cluster's name.
        cluster: String,
        /// The cluster's number.
        cluster_id: String,
        /// The node's number.
        node: u64,
    },
    /// A file whose content is not shown.
    Other,
    /// Bytes that are no record; the next item is behind them. At the end of the last segment: what a power cut leaves,
    /// unless something behind it was written later.
    Damaged {
        /// What is wrong with them.
        problem: String,
    },
}

/// Tells `each` of every piece of the data directory at `root`: identity, snapshots, and the log in its order.
/// `Err`: a directory, or a file in it, cannot be read.
pub fn dump(fs: &SharedFs, root: &Path, each: &mut dyn FnMut(Item)) -> Result<(), StoreError> {
    let read = |file: &Path| {
        let path = root.join(file);
        fs.read(&path).map_err(StoreError::io(&path, "read"))
    };
    let names = fs.list(root).map_err(StoreError::io(root, "list"))?;
    for name in names.iter().filter(|name| layout::SMALL_FILES.contains(&name.as_str())) {
        let file = PathBuf::from(name);
        let content = read(&file)?;
        each(whole(file, &content, small(name, &content)));
    }
    for name in list(fs, &root.join(layout::SNAPSHOTS), &names, layout::SNAPSHOTS)? {
        let file = Path::new(layout::SNAPSHOTS).join(&name);
        let content = read(&file)?;
        let what = if name.ends_with(snapshot::SUFFIX) { snapshot(&content) } else { What::Other };
        each(whole(file, &content, what));
    }
    for name in list(fs, &root.join(layout::LOG), &names, layout::LOG)? {
        let file = Path::new(layout::LOG).join(&name);
        let content = read(&file)?;
        match segment_sequence(&name) {
            Some(_) => segment(&file, &content, each),
            None => each(whole(file, &content, What::Other)),
        }
    }
    Ok(())
}

fn list(fs: &SharedFs, dir: &Path, names: &[String], name: &str) -> Result<Vec<String>, StoreError> {
    // A directory that a node has never got to make holds nothing.
    if !names.iter().any(|there| there == name) {
        return Ok(Vec::new());
    }
    fs.list(dir).map_err(StoreError::io(dir, "list"))
}

fn whole(file: PathBuf, content: &[u8], what: What) -> Item {
    Item { file, offset: 0, bytes: content.len() as u64, what }
}

fn small(name: &str, content: &[u8]) -> What {
    if name != layout::IDENTITY.name {
        return What::Other;
    }
    match DataDir::identity_in(content) {
        Ok(identity) => What::Identity {
            cluster: identity.cluster_name,
            cluster_id: identity.cluster_id.to_string(),
            node: identity.node.get(),
        },
        Err(problem) => What::Damaged { problem },
    }
}

fn snapshot(content: &[u8]) -> What {
    let image = envelope::unwrap(snapshot::MAGIC, "snapshot", content)
        .and_then(|payload| Image::decode(payload.to_vec().into()));
    match image {
        Ok(Image { meta, state, .. }) => What::Snapshot {
            last: meta.last_log_id.map(position),
            voters: voters(meta.last_membership.get_joint_config()),
            revision: state.revision.get(),
            groups: state.groups.len(),
            services: state.services.len(),
            nodes: state.nodes.len(),
        },
        Err(problem) => What::Damaged { problem },
    }
}

fn segment(file: &Path, bytes: &[u8], each: &mut dyn FnMut(Item)) {
    let mut at = 0;
    while at < bytes.len() {
        let (end, what) = match Frame::at(bytes, at) {
            Ok(frame) => (frame.end, frame.record().and_then(|r| record(r, frame.synced as u64))),
            Err(problem) => {
                let next = frames_after(bytes, at).next().map(|(next, _)| next);
                (next.unwrap_or(bytes.len()), Err(problem.to_owned()))
            }
        };
        let what = what.unwrap_or_else(|problem| What::Damaged { problem });
        each(Item { file: file.to_owned(), offset: at as u64, bytes: (end - at) as u64, what });
        at = end;
    }
}

fn record(record: Record, synced: u64) -> Result<What, String> {
    Ok(match record {
        Record::Start(start) => What::Start {
            sequence: start.sequence,
            vote: start.vote.map(vote).transpose()?,
            committed: optional(start.committed)?,
            purged: optional(start.purged)?,
            last: optional(start.last)?,
        },
        Record::Entry(entry) => {
            let entry = codec::entry_from(entry).map_err(|e| e.to_string())?;
            let says = match &entry.payload {
                Payload::Blank => "nothing: a leader begins".to_owned(),
                Payload::Normal(proposal) => proposal.to_string(),
                Payload::Membership(m) => format!("voters {:?}", voters(m.get_joint_config())),
            };
            What::Entry { at: position(entry.log_id), says, synced }
        }
        Record::Vote(v) => What::Vote(vote(v)?),
        Record::Committed(committed) => What::Committed { upto: optional(committed.log_id)? },
        Record::Truncation(truncation) => What::Truncation { after: optional(truncation.after)? },
        Record::Purge(purge) => What::Purge { upto: optional(purge.upto)? },
    })
}

fn position(id: LogId) -> Position {
    Position { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

fn optional(id: Option<pb::LogId>) -> Result<Option<Position>, String> {
    id.map(|id| codec::log_id_from(id).map(position)).transpose().map_err(|e| e.to_string())
}

fn vote(vote: pb::VoteState) -> Result<Vote, String> {
    let vote = codec::vote_from(vote).map_err(|e| e.to_string())?;
    Ok(Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed })
}

fn voters(configs: &[std::collections::BTreeSet<u64>]) -> Vec<Vec<u64>> {
    configs.iter().map(|set| set.iter().copied().collect()).collect()
}
