//! A directory that becomes another: a node that has left starts over empty, a survivor of its cluster's loss begins a new
//! one.
//!
//! What it is to become is written down first, as one file. From then on every start carries it out from the beginning,
//! until it is done and the file is removed: nothing in between can be taken for either life.

use std::path::Path;

use bytes::Bytes;
use lockstep_proto::raft::v1 as pb;
use prost::Message;

use super::{DataDir, Identity, Kind, decode, encode};
use crate::error::StoreError;
use crate::fs::SyncPoint;
use crate::snapshot::{Image, SnapshotDir};
use crate::wal::record::Record;
use crate::wal::{SEGMENT_BYTES, Wal};

pub(super) const NEXT: Kind = Kind { name: "next", magic: b"LSNEXT01" };

/// What a directory becomes.
pub(crate) enum Successor {
    /// That of a node without a cluster.
    Empty,
    /// That of a cluster's first node, which holds `snapshot` and has seen `vote`.
    Founder { identity: Identity, snapshot: Bytes, vote: pb::VoteState },
}

impl DataDir {
    /// Writes down what this directory is to become; [`Self::succeed`] then makes it so. Nobody may have the store open
    /// for longer than this process lives.
    pub(crate) fn set_successor(&self, successor: &Successor) -> Result<(), StoreError> {
        let message = match successor {
            Successor::Empty => pb::Succession::default(),
            Successor::Founder { identity, snapshot, vote } => {
                let identity =
                    pb::Identity::decode(encode(identity).as_slice()).expect("it was just encoded");
                pb::Succession { identity: Some(identity), snapshot: snapshot.to_vec(), vote: Some(*vote) }
            }
        };
        self.write_whole(NEXT, &message.encode_to_vec())
    }

    /// Makes this directory what was written down, if anything was.
    pub(crate) fn succeed(&self) -> Result<bool, StoreError> {
        let Some(content) = self.read_whole(NEXT)? else { return Ok(false) };
        let path = self.root.join(NEXT.name);
        let damaged = |problem: String| StoreError::corrupt(&path, 0, problem);
        let next = pb::Succession::decode(content.as_slice()).map_err(|e| damaged(e.to_string()))?;
        self.remove_file(&self.root.join(super::IDENTITY.name))?;
        for dir in [self.log(), self.snapshots()] {
            for name in self.fs.list(&dir).map_err(StoreError::io(&dir, "list"))? {
                self.remove_file(&dir.join(name))?;
            }
            self.fs.sync_dir(&dir, SyncPoint::SegmentRemoval).map_err(StoreError::io(&dir, "sync"))?;
        }
        if let Some(identity) = next.identity {
            let identity = decode(&identity.encode_to_vec()).map_err(damaged)?;
            let image = Image::decode(next.snapshot.into()).map_err(damaged)?;
            let vote = next.vote.ok_or_else(|| damaged("no vote".into()))?;
            SnapshotDir::new(self.fs(), &self.snapshots()).save(&image)?;
            let (mut wal, _) = Wal::open(self.fs(), &self.log(), SEGMENT_BYTES)?;
            wal.write(&[Record::Vote(vote)])?;
            wal.sync(SyncPoint::Vote)?;
            self.set_identity(&identity)?;
        }
        self.remove_file(&path)?;
        self.fs.sync_dir(&self.root, SyncPoint::IdentityName).map_err(StoreError::io(&self.root, "sync"))?;
        Ok(true)
    }

    fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        match self.fs.remove(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(StoreError::io(path, "remove")),
        }
    }
}

#[cfg(test)]
mod tests;
