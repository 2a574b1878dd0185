//! Pinned attachments to interfaces.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use aya::programs::links::PinnedLink;

use super::Pins;
use super::folder::{names, remove_file};
use crate::error::DataplaneError;
use crate::hook::Hook;
use crate::sys;

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attached {
    Tc,
    Xdp,
    XdpGeneric,
}

/// What the names of pins at XDP end in.
const XDP: &str = ":xdp";
const XDP_GENERIC: &str = ":xdp-generic";
/// A dot in an interface's name.
const DOT: &str = ":d";

impl Attached {
    fn suffix(self) -> &'static str {
        match self {
            Attached::Tc => "",
            Attached::Xdp => XDP,
            Attached::XdpGeneric => XDP_GENERIC,
        }
    }

    pub(crate) fn hook(self) -> Hook {
        match self {
            Attached::Tc => Hook::Tc,
            Attached::Xdp => Hook::Xdp,
            Attached::XdpGeneric => Hook::XdpGeneric,
        }
    }
}

/// One pinned link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkPin {
    pub(crate) path: PathBuf,
    pub(crate) interface: String,
    pub(crate) at: Attached,
}

impl Pins {
    /// Where an interface's link is pinned, or will be.
    pub(crate) fn link(&self, interface: &str, at: Attached) -> LinkPin {
        let path = self.links().join(format!("{}{}", interface.replace('.', DOT), at.suffix()));
        LinkPin { path, interface: interface.to_owned(), at }
    }

    /// Every pinned link, XDP's first: what XDP passes on, tc still decides.
    pub(crate) fn link_pins(&self) -> Result<Vec<LinkPin>, DataplaneError> {
        let mut pins: Vec<LinkPin> = names(&self.links())?
            .into_iter()
            .map(|name| {
                let xdp = [Attached::XdpGeneric, Attached::Xdp].into_iter();
                let found = xdp.filter_map(|at| Some((name.strip_suffix(at.suffix())?, at))).next();
                let (interface, at) = found.unwrap_or((&name, Attached::Tc));
                self.link(&interface.replace(DOT, "."), at)
            })
            .collect();
        pins.sort_by_key(|pin| (pin.at == Attached::Tc, pin.interface.clone()));
        Ok(pins)
    }

    /// Interfaces with a pinned attachment.
    pub(crate) fn linked(&self) -> Result<Vec<String>, DataplaneError> {
        let interfaces: BTreeSet<String> = self.link_pins()?.into_iter().map(|pin| pin.interface).collect();
        Ok(interfaces.into_iter().collect())
    }

    /// The interface that the tc link pinned for `interface` is on, see [`LinkPin::index`].
    pub(crate) fn tc_link_index(&self, interface: &str) -> Result<Option<u32>, DataplaneError> {
        self.link(interface, Attached::Tc).index()
    }
}

impl LinkPin {
    /// The interface the link is on: 0 if that went away; `None` if there is no pin.
    pub(crate) fn index(&self) -> Result<Option<u32>, DataplaneError> {
        match sys::object_get(&self.path) {
            Ok(fd) => {
                let link = sys::link(fd.as_fd()).map_err(DataplaneError::pin(&self.path))?;
                Ok(Some(link.ifindex))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataplaneError::Pin { path: self.path.clone(), source }),
        }
    }

    /// The pinned link, if it is still on this interface. One whose interface went away (a deleted and re-created
    /// veth) holds nothing: its pin is removed.
    pub(crate) fn usable(&self, ifindex: u32) -> Result<Option<PinnedLink>, DataplaneError> {
        match self.index()? {
            None => return Ok(None),
            Some(index) if index == ifindex => {}
            Some(_) => {
                remove_file(&self.path)?;
                return Ok(None);
            }
        }
        PinnedLink::from_pin(&self.path).map(Some).map_err(|error| DataplaneError::Pin {
            path: self.path.clone(),
            source: io::Error::other(error.to_string()),
        })
    }

    /// Detaches, and returns when no packet meets the program there any more.
    pub(crate) fn detach(&self) -> Result<(), DataplaneError> {
        let fd = sys::object_get(&self.path).map_err(DataplaneError::pin(&self.path))?;
        match sys::link_detach(fd.as_fd()) {
            Ok(()) => {}
            // Its interface has gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(source) => return Err(DataplaneError::Pin { path: self.path.clone(), source }),
        }
        remove_file(&self.path)
    }
}
