//! Where everything is pinned:
//!
//! ```text
//! PIN_DIR/v2/maps/FLOWS …      every map that outlives the daemon
//! PIN_DIR/v2/links/eth0 …      the attachment to an interface
//! PIN_DIR/v2/stages/0 …        tail calls of the attached build (its entries vanish with its last pin)
//! ```
//!
//! `v2` is the schema of `lockstep-abi`: a version with other layouts never opens these.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lockstep_abi::SCHEMA;
use lockstep_abi::map::PINNED;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::DataplaneError;
use crate::object::Definition;
use crate::sys;

/// A node's pin directory.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    root: PathBuf,
    schema: PathBuf,
}

impl Pins {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), schema: root.join(format!("v{SCHEMA}")) }
    }

    /// Makes the folders, on a BPF file system or not at all.
    pub(crate) fn create(&self) -> Result<(), DataplaneError> {
        let parent = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let kind = statfs(parent)
            .map_err(|errno| DataplaneError::Pin { path: parent.into(), source: errno.into() })?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            let reason = "is not on a BPF file system (mount -t bpf bpf /sys/fs/bpf)";
            return Err(DataplaneError::Pin { path: self.root.clone(), source: io::Error::other(reason) });
        }
        for folder in [self.maps(), self.links(), self.stages()] {
            std::fs::create_dir_all(&folder).map_err(DataplaneError::pin(&folder))?;
        }
        Ok(())
    }

    fn maps(&self) -> PathBuf {
        self.schema.join("maps")
    }

    fn links(&self) -> PathBuf {
        self.schema.join("links")
    }

    fn stages(&self) -> PathBuf {
        self.schema.join("stages")
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface)
    }

    /// A pin for the tail calls of a new build, beside those that are in use.
    pub(crate) fn new_stages(&self) -> Result<PathBuf, DataplaneError> {
        let used: Vec<u64> = names(&self.stages())?.iter().filter_map(|name| name.parse().ok()).collect();
        let next = used.into_iter().max().map_or(0, |last| last + 1);
        Ok(self.stages().join(next.to_string()))
    }

    /// Removes the tail calls of builds that are no longer attached.
    pub(crate) fn keep_only_stages(&self, kept: &Path) -> Result<(), DataplaneError> {
        for name in names(&self.stages())? {
            let path = self.stages().join(name);
            if path != kept {
                std::fs::remove_file(&path).map_err(DataplaneError::pin(&path))?;
            }
        }
        Ok(())
    }

    /// Interfaces with a pinned attachment.
    pub(crate) fn linked(&self) -> Result<Vec<String>, DataplaneError> {
        names(&self.links())
    }

    /// Detaches from an interface, and returns when no packet meets the program there any more.
    pub(crate) fn detach(&self, interface: &str) -> Result<(), DataplaneError> {
        let path = self.link(interface);
        let fd = sys::object_get(&path).map_err(DataplaneError::pin(&path))?;
        match sys::link_detach(fd.as_fd()) {
            Ok(()) => {}
            // Its interface has gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(source) => return Err(DataplaneError::Pin { path, source }),
        }
        std::fs::remove_file(&path).map_err(DataplaneError::pin(&path))
    }

    /// Checks every pinned map against what this version needs: the kernel would copy by its own sizes.
    pub(crate) fn check(&self, needed: impl Fn(&str) -> Option<Definition>) -> Result<(), DataplaneError> {
        for name in PINNED {
            let path = self.map(name);
            let fd = match sys::object_get(&path) {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(DataplaneError::Pin { path, source }),
            };
            let info = sys::map_info(fd.as_fd()).map_err(DataplaneError::pin(&path))?;
            let found = Definition {
                map_type: info.type_,
                key_size: info.key_size,
                value_size: info.value_size,
                max_entries: info.max_entries,
                flags: info.map_flags,
            };
            let Some(needed) = needed(name) else {
                return Err(DataplaneError::Load(format!("the object has no map {name}")));
            };
            if needed != found {
                return Err(DataplaneError::Incompatible { path, reason: needed.differences(&found) });
            }
        }
        Ok(())
    }

    /// Removes every pin, and with the links the attachments; then the folders.
    pub(crate) fn remove(&self) -> Result<(), DataplaneError> {
        // Attachments first: a program without its maps would be worse than none.
        for interface in self.linked()? {
            self.detach(&interface)?;
        }
        for folder in [self.stages(), self.maps()] {
            for name in names(&folder)? {
                let path = folder.join(name);
                std::fs::remove_file(&path).map_err(DataplaneError::pin(&path))?;
            }
        }
        for folder in [self.links(), self.stages(), self.maps(), self.schema.clone(), self.root.clone()] {
            match std::fs::remove_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Another schema's pins are not ours to remove.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(source) => return Err(DataplaneError::Pin { path: folder, source }),
            }
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Result<Vec<String>, DataplaneError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(DataplaneError::Pin { path: folder.into(), source }),
    };
    entries
        .map(|entry| {
            Ok(entry.map_err(DataplaneError::pin(folder))?.file_name().to_string_lossy().into_owned())
        })
        .collect()
}
