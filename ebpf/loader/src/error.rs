//! What can go wrong between this process and the kernel, by what a caller can do about it.

use std::io;
use std::path::PathBuf;

/// Why the dataplane could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The list of interfaces could not be read.
    #[error("the interfaces cannot be listed: {source}")]
    Interfaces {
        /// The kernel's reason.
        source: io::Error,
    },
    /// An interface that the configuration names is not there.
    #[error("interface {name:?} does not exist")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// A pin of an earlier run holds something that this version cannot use.
    #[error("{path} is not what this build and its dataplane.max_flows need: {reason}; start again with those that made it, or hand this node's groups over and run `lockstepd --config FILE --purge` (live flows are lost)", path = path.display())]
    Incompatible {
        /// The pin.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Programs of another schema are attached from the same pin directory. Nothing was touched.
    #[error("{path}: another build's dataplane is in place, on {interfaces}: hand this node's groups over and purge it with that build, or with `lockstepd --purge` (live flows are lost), then start again", path = path.display())]
    OtherBuild {
        /// Its folder.
        path: PathBuf,
        /// Where it is attached.
        interfaces: String,
    },
    /// A pin could not be opened, made or removed.
    #[error("{path}: {source}", path = path.display())]
    Pin {
        /// The pin or its folder.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused the object: no permission, too old, or the verifier said no.
    #[error("the programs cannot be loaded: {0}")]
    Load(String),
    /// A program could not be attached.
    #[error("interface {interface:?}: the program cannot be attached: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's reason.
        reason: String,
    },
    /// A sysctl could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Sysctl {
        /// Its file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A map operation failed.
    #[error("map {map}: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Netlink could not be used.
    #[error("netlink: {what}: {source}")]
    Netlink {
        /// For what.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The image asks for more than the maps can hold; nothing of that kind was added.
    #[error("{what}: the limit of {limit} is reached")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

impl DataplaneError {
    /// A label for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Interfaces { .. } => "interfaces",
            Self::NoInterface { .. } => "no_interface",
            Self::Incompatible { .. } => "incompatible_pin",
            Self::OtherBuild { .. } => "other_build",
            Self::Pin { .. } => "pin",
            Self::Load(_) => "load",
            Self::Attach { .. } => "attach",
            Self::Sysctl { .. } => "sysctl",
            Self::Map { .. } => "map",
            Self::Netlink { .. } => "netlink",
            Self::Limit { .. } => "limit",
        }
    }

    pub(crate) fn map(map: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Map { map, source }
    }

    pub(crate) fn pin(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Pin { path, source }
    }
}
