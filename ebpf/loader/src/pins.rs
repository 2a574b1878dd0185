//! Where everything is pinned:
//!
//! ```text
//! PIN_DIR/v3/maps/FLOWS4 …                every map that outlives the daemon
//! PIN_DIR/v3/links/eth0 …                 the attachment to an interface at tc
//! PIN_DIR/v3/links/eth0:xdp …             at XDP; with `:xdp-generic`, in the stack instead of the driver
//! PIN_DIR/v3/stages/0:TC_STAGES …         tail calls of the attached build (entries vanish with the last pin)
//! PIN_DIR/v3/notes/ipv6-all-forwarding    a symbolic link whose target is a sysctl's former value
//! ```
//!
//! A BPF file system takes no dots in names, and an interface's name has no colon: the dot of `eth0.7` is pinned as
//! `:d`. `v3` is the schema of `lockstep-abi`: a version with other layouts never opens these.

mod folder;
mod link;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lockstep_abi::SCHEMA;
use lockstep_abi::map::PINNED;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

pub(crate) use link::{Attached, LinkPin};

use self::folder::{names, remove_file};
use crate::error::DataplaneError;
use crate::object::Definition;
use crate::sys;

/// A node's pin directory, as one schema uses it.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    root: PathBuf,
    schema: PathBuf,
}

impl Pins {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), schema: root.join(format!("v{SCHEMA}")) }
    }

    /// What each schema has pinned in `root`.
    pub(crate) fn of_every_schema(root: &Path) -> Result<Vec<Self>, DataplaneError> {
        let schemas = names(root)?.into_iter().filter(|name| is_schema(name));
        Ok(schemas.map(|name| Self { root: root.to_owned(), schema: root.join(name) }).collect())
    }

    /// Refuses a directory in which another schema's programs are attached: two dataplanes on one interface would
    /// each take the other's packets.
    pub(crate) fn refuse_others(&self) -> Result<(), DataplaneError> {
        for other in Self::of_every_schema(&self.root)? {
            let interfaces = other.linked()?;
            if other.schema != self.schema && !interfaces.is_empty() {
                return Err(DataplaneError::OtherBuild {
                    path: other.schema,
                    interfaces: interfaces.join(", "),
                });
            }
        }
        Ok(())
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
        for folder in [self.maps(), self.links(), self.stages(), self.notes()] {
            std::fs::create_dir_all(&folder).map_err(DataplaneError::pin(&folder))?;
        }
        Ok(())
    }

    /// Where this schema's pins are.
    pub(crate) fn folder(&self) -> &Path {
        &self.schema
    }

    fn maps(&self) -> PathBuf {
        self.schema.join("maps")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.schema.join("links")
    }

    fn stages(&self) -> PathBuf {
        self.schema.join("stages")
    }

    fn notes(&self) -> PathBuf {
        self.schema.join("notes")
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// A number for the tail calls of a new build, beside those that are in use.
    pub(crate) fn new_build(&self) -> Result<u64, DataplaneError> {
        let used = names(&self.stages())?.into_iter().filter_map(|name| build_of(&name));
        Ok(used.max().map_or(0, |last| last + 1))
    }

    /// Where a build pins its program array `map`.
    pub(crate) fn stages_of(&self, build: u64, map: &str) -> PathBuf {
        self.stages().join(format!("{build}:{map}"))
    }

    /// Removes the tail calls of builds that are no longer attached.
    pub(crate) fn keep_only_build(&self, build: u64) -> Result<(), DataplaneError> {
        for name in names(&self.stages())? {
            if build_of(&name) != Some(build) {
                remove_file(&self.stages().join(name))?;
            }
        }
        Ok(())
    }

    /// Keeps a word until everything is removed. A BPF file system has no plain files; a symbolic link's target
    /// will do. What is noted already stays.
    pub(crate) fn note(&self, name: &str, word: &str) -> Result<(), DataplaneError> {
        let path = self.notes().join(name);
        match std::os::unix::fs::symlink(word, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(DataplaneError::pin(&path)),
        }
    }

    pub(crate) fn noted(&self, name: &str) -> Result<Option<String>, DataplaneError> {
        let path = self.notes().join(name);
        match std::fs::read_link(&path) {
            Ok(word) => Ok(Some(word.to_string_lossy().into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataplaneError::Pin { path, source }),
        }
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

    /// Detaches and removes everything that this schema has pinned.
    pub(crate) fn remove(&self) -> Result<(), DataplaneError> {
        // Attachments first: a program without its maps would be worse than none.
        for link in self.link_pins()? {
            link.detach()?;
        }
        for folder in [self.stages(), self.notes(), self.maps()] {
            for name in names(&folder)? {
                remove_file(&folder.join(name))?;
            }
        }
        let folders = [self.links(), self.stages(), self.notes(), self.maps(), self.schema.clone()];
        folders.iter().chain([&self.root]).try_for_each(|folder| folder::remove_empty(folder))
    }
}

fn is_schema(name: &str) -> bool {
    name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Earlier versions named the tail calls by the number alone.
fn build_of(name: &str) -> Option<u64> {
    name.split(':').next()?.parse().ok()
}
