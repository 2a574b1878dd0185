//! The data directory: who may use it, whose it is, and where things are.
//!
//! ```text
//! DATA_DIR/lock         held by the running daemon
//! DATA_DIR/installation the number that tells this directory from every other
//! DATA_DIR/identity     cluster and node id, once the node belongs to a cluster
//! DATA_DIR/next         what the directory is to become, while it is on the way there
//! DATA_DIR/log/         write-ahead log
//! DATA_DIR/snapshots/   snapshots
//! ```

pub(crate) mod succession;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_model::ids::{InstallationId, NodeId};
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

pub(crate) const IDENTITY: Kind = Kind { name: "identity", magic: b"LSIDENT1" };
const INSTALLATION: Kind = Kind { name: "installation", magic: b"LSINSTL1" };
const HEADER: usize = 12;

/// The directory of the log, in the data directory.
pub(crate) const LOG: &str = "log";
/// The directory of the snapshots.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// Files of the data directory itself, but for the lock.
pub(crate) const SMALL_FILES: [&str; 3] = [INSTALLATION.name, IDENTITY.name, succession::NEXT.name];

/// A small file that is replaced as a whole: `magic | crc32c | content`.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    magic: &'static [u8; 8],
}

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
        self.root.join(LOG)
    }

    /// The snapshots' directory.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join(SNAPSHOTS)
    }

    /// Who this node is; `None`: it belongs to no cluster yet.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let Some(content) = self.read_whole(IDENTITY)? else { return Ok(None) };
        let decoded = decode(&content);
        decoded.map(Some).map_err(|problem| StoreError::corrupt(&self.root.join(IDENTITY.name), 0, problem))
    }

    /// Makes this node who `identity` says, durably.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        self.write_whole(IDENTITY, &encode(identity))
    }

    /// Which installation this is: drawn when it is first asked for.
    pub fn installation(&self) -> Result<InstallationId, StoreError> {
        if let Some(content) = self.read_whole(INSTALLATION)? {
            let path = self.root.join(INSTALLATION.name);
            let id = content.as_slice().try_into();
            return id.map(InstallationId).map_err(|_| StoreError::corrupt(&path, 0, "other than 16 bytes"));
        }
        let drawn = InstallationId(rand::random());
        self.write_whole(INSTALLATION, &drawn.0)?;
        Ok(drawn)
    }

    /// A small file's content, if the file is there.
    fn read_whole(&self, kind: Kind) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.root.join(kind.name);
        let bytes = match self.fs.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io(&path, "read")(e)),
        };
        let content = unpack(kind, &bytes).map_err(|problem| StoreError::corrupt(&path, 0, problem))?;
        Ok(Some(content.to_vec()))
    }

    /// What an identity's file says, or what is wrong with it.
    pub(crate) fn identity_in(file: &[u8]) -> Result<Identity, String> {
        decode(unpack(IDENTITY, file)?)
    }

    /// Replaces a small file, durably: either the old content or the new one is there, whenever power is lost.
    fn write_whole(&self, kind: Kind, content: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(kind.name);
        let aside = self.root.join(format!("{}.tmp", kind.name));
        let mut bytes = kind.magic.to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
        bytes.extend_from_slice(content);
        let mut file = self.fs.create(&aside).map_err(StoreError::io(&aside, "create"))?;
        file.append(&bytes).map_err(StoreError::io(&aside, "write"))?;
        file.sync(SyncPoint::IdentityContent).map_err(StoreError::io(&aside, "sync"))?;
        self.fs.rename(&aside, &path).map_err(StoreError::io(&path, "rename to"))?;
        self.fs.sync_dir(&self.root, SyncPoint::IdentityName).map_err(StoreError::io(&self.root, "sync"))
    }
}

/// A small file's content, or what is wrong with it.
fn unpack(kind: Kind, file: &[u8]) -> Result<&[u8], String> {
    if file.len() < HEADER || &file[..8] != kind.magic {
        return Err(format!("it does not begin as an {} does", kind.name));
    }
    let crc = u32::from_le_bytes(file[8..HEADER].try_into().expect("four bytes"));
    if crc != crc32c::crc32c(&file[HEADER..]) {
        return Err("its checksum is wrong".into());
    }
    Ok(&file[HEADER..])
}

fn encode(identity: &Identity) -> Vec<u8> {
    pb::Identity {
        cluster_name: identity.cluster_name.clone(),
        cluster_id: identity.cluster_id.to_vec(),
        node_id: identity.node.get(),
    }
    .encode_to_vec()
}

fn decode(content: &[u8]) -> Result<Identity, String> {
    let message = pb::Identity::decode(content).map_err(|e| e.to_string())?;
    let cluster_id =
        ClusterId::from_slice(&message.cluster_id).ok_or("a cluster id of other than 16 bytes")?;
    Ok(Identity { cluster_name: message.cluster_name, cluster_id, node: NodeId(message.node_id) })
}
