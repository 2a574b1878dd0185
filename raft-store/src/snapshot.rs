//! Snapshots of the agreed state: `magic | length | crc32c | protobuf`, written aside, synced, renamed.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lockstep_model::state::State;
use lockstep_proto::raft::v1 as pb;
use prost::Message;

use crate::codec;
use crate::envelope;
use crate::error::StoreError;
use crate::fs::{SharedFs, SyncPoint};
use crate::types::SnapshotMeta;

/// A snapshot as it is stored and sent: the encoded `lockstep.raft.v1.Snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBytes(pub Bytes);

pub(crate) const MAGIC: &[u8; 8] = b"LSSNAP01";
pub(crate) const SUFFIX: &str = ".snap";

/// The one before the newest stays, in case the newest cannot be read: the log behind it may still be there.
const KEPT: usize = 2;

/// A snapshot, understood.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: State,
    pub(crate) bytes: Bytes,
}

impl Image {
    pub(crate) fn encode(meta: SnapshotMeta, state: &State) -> Image {
        let message = pb::Snapshot { meta: Some(codec::snapshot_meta(&meta)), state: Some(state.into()) };
        Image { meta, state: state.clone(), bytes: message.encode_to_vec().into() }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Image, String> {
        let message = pb::Snapshot::decode(bytes.clone()).map_err(|e| e.to_string())?;
        let meta = codec::snapshot_meta_from(message.meta).map_err(|e| e.to_string())?;
        let state = message.state.ok_or("a snapshot without a state")?;
        let state = State::try_from(state).map_err(|e| e.to_string())?;
        Ok(Image { meta, state, bytes })
    }
}

/// The directory of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotDir {
    fs: SharedFs,
    dir: PathBuf,
}

impl SnapshotDir {
    pub(crate) fn new(fs: SharedFs, dir: &Path) -> Self {
        SnapshotDir { fs, dir: dir.to_owned() }
    }

    /// The newest snapshot that can be read. Damaged ones are passed over, loudly; if the log no longer holds what
    /// they covered, Raft refuses to start.
    pub(crate) fn newest(&self) -> Result<Option<Image>, StoreError> {
        // A name that is only in memory must not be relied on: the log may be purged because of it.
        self.fs
            .sync_dir(&self.dir, SyncPoint::RecoveredSnapshots)
            .map_err(StoreError::io(&self.dir, "sync"))?;
        for name in self.names()?.iter().rev() {
            let path = self.dir.join(name);
            let file = self.fs.read(&path).map_err(StoreError::io(&path, "read"))?;
            match envelope::unwrap(MAGIC, "snapshot", &file)
                .and_then(|payload| Image::decode(Bytes::copy_from_slice(payload)))
            {
                Ok(image) => return Ok(Some(image)),
                Err(problem) => {
                    tracing::error!(path = %path.display(), problem, "a damaged snapshot is passed over")
                }
            }
        }
        Ok(None)
    }

    /// Stores a snapshot, durably, and removes older ones.
    pub(crate) fn save(&self, image: &Image) -> Result<(), StoreError> {
        let name = name(&image.meta);
        let path = self.dir.join(&name);
        let aside = self.dir.join(format!("{name}.tmp"));
        let bytes = envelope::wrap(MAGIC, &image.bytes);
        let mut file = self.fs.create(&aside).map_err(StoreError::io(&aside, "create"))?;
        file.append(&bytes).map_err(StoreError::io(&aside, "write"))?;
        file.sync(SyncPoint::SnapshotContent).map_err(StoreError::io(&aside, "sync"))?;
        self.fs.rename(&aside, &path).map_err(StoreError::io(&path, "rename to"))?;
        self.fs.sync_dir(&self.dir, SyncPoint::SnapshotName).map_err(StoreError::io(&self.dir, "sync"))?;
        let names = self.names()?;
        for old in names.iter().take(names.len().saturating_sub(KEPT)) {
            let path = self.dir.join(old);
            self.fs.remove(&path).map_err(StoreError::io(&path, "remove"))?;
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.fs.list(&self.dir).map_err(StoreError::io(&self.dir, "list"))?;
        names.retain(|n| n.ends_with(SUFFIX));
        Ok(names)
    }
}

/// Names sort as the log ids they contain.
fn name(meta: &SnapshotMeta) -> String {
    let (index, term, node) =
        meta.last_log_id.map_or((0, 0, 0), |id| (id.index, id.leader_id.term, id.leader_id.node_id));
    format!("{index:016x}-{term:016x}-{node:016x}{SUFFIX}")
}
