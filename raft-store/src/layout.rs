//! The data directory: who may use it, whose it is, and where things are.
//!
//! ```text
//! DATA_DIR/lock         held by the running daemon
//! DATA_DIR/identity     cluster and node id, once the node belongs to a cluster
//! DATA_DIR/log/         write-ahead log
//! DATA_DIR/snapshots/   snapshots
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_model::ids::NodeId;
use lockstep_proto::raft::v1 as pb;
use prost::Message;

use crate::error::StoreError;
use crate::fs::{FsLock, SharedFs, SyncPoint};

/// A cluster's number: drawn once, so that two clusters of one name are never taken for each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// From a message's bytes; `None` unless there are 16.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(ClusterId)
    }

    /// For a message.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name, from the configuration it was formed with.
    pub cluster_name: String,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The node in it.
    pub node: NodeId,
}

const MAGIC: &[u8; 8] = b"LSIDENT1";
const HEADER: usize = 12;

/// An open data directory. Nobody else can open it while this lives.
#[derive(Debug)]
pub struct DataDir {
    fs: SharedFs,
    root: PathBuf,
    _lock: Box<dyn FsLock>,
}

impl DataDir {
    /// Opens `root`, which is made if it is not there (its parent must be).
    pub fn open(fs: SharedFs, root: &Path) -> Result<DataDir, StoreError> {
        fs.create_dir(root).map_err(StoreError::io(root, "create"))?;
        if let Some(parent) = root.parent() {
            fs.sync_dir(parent, SyncPoint::DataDirectory).map_err(StoreError::io(parent, "sync"))?;
        }
        let lock_path = root.join("lock");
        let lock = fs.lock(&lock_path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked { path: lock_path.clone() },
            _ => StoreError::io(&lock_path, "lock")(e),
        })?;
        let dir = DataDir { fs, root: root.to_owned(), _lock: lock };
        for sub in [dir.log(), dir.snapshots()] {
            dir.fs.create_dir(&sub).map_err(StoreError::io(&sub, "create"))?;
        }
        // Always: a name that an earlier process left may be in memory only.
        dir.fs.sync_dir(root, SyncPoint::Layout).map_err(StoreError::io(root, "sync"))?;
        Ok(dir)
    }

    /// The file system.
    pub fn fs(&self) -> SharedFs {
        self.fs.clone()
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The log's directory.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The snapshots' directory.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Who this node is; `None`: it belongs to no cluster yet.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let path = self.identity_path();
        let bytes = match self.fs.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io(&path, "read")(e)),
        };
        decode(&bytes).map(Some).map_err(|problem| StoreError::corrupt(&path, 0, problem))
    }

    /// Makes this node who `identity` says, durably.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        let path = self.identity_path();
        let aside = self.root.join("identity.tmp");
        let mut file = self.fs.create(&aside).map_err(StoreError::io(&aside, "create"))?;
        file.append(&encode(identity)).map_err(StoreError::io(&aside, "write"))?;
        file.sync(SyncPoint::IdentityContent).map_err(StoreError::io(&aside, "sync"))?;
        self.fs.rename(&aside, &path).map_err(StoreError::io(&path, "rename to"))?;
        self.fs.sync_dir(&self.root, SyncPoint::IdentityName).map_err(StoreError::io(&self.root, "sync"))
    }

    fn identity_path(&self) -> PathBuf {
        self.root.join("identity")
    }
}

fn encode(identity: &Identity) -> Vec<u8> {
    let payload = pb::Identity {
        cluster_name: identity.cluster_name.clone(),
        cluster_id: identity.cluster_id.to_vec(),
        node_id: identity.node.get(),
    }
    .encode_to_vec();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Identity, String> {
    if bytes.len() < HEADER || &bytes[..8] != MAGIC {
        return Err("it does not begin as an identity does".into());
    }
    let crc = u32::from_le_bytes(bytes[8..HEADER].try_into().expect("four bytes"));
    let payload = &bytes[HEADER..];
    if crc != crc32c::crc32c(payload) {
        return Err("its checksum is wrong".into());
    }
    let message = pb::Identity::decode(payload).map_err(|e| e.to_string())?;
    let cluster_id =
        ClusterId::from_slice(&message.cluster_id).ok_or("a cluster id of other than 16 bytes")?;
    Ok(Identity { cluster_name: message.cluster_name, cluster_id, node: NodeId(message.node_id) })
}
