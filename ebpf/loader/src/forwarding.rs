//! Switching forwarding on, and back.
//!
//! IPv4 forwards by the interface a packet came in on. IPv6 forwards by `net.ipv6.conf.all.forwarding`, which the
//! kernel copies to every interface: a node of a cluster is an IPv6 router on all of them, and takes no more
//! default routes from router advertisements (unless `accept_ra` is 2). What stood there before is kept beside
//! the pins, and put back when the dataplane is removed.

use std::io;
use std::path::{Path, PathBuf};

use lockstep_abi::address::InterfaceValue;
use lockstep_abi::map as names;

use crate::error::DataplaneError;
use crate::interfaces::Interface;
use crate::map::Map;
use crate::pins::Pins;

/// Of IPv6, for all interfaces.
const ALL6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// The note of what it was.
const ALL6_NOTE: &str = "ipv6-all-forwarding";

/// On, for both families. Only after the programs are attached.
pub(crate) fn switch_on(pins: &Pins, interfaces: &[Interface]) -> Result<(), DataplaneError> {
    for interface in interfaces {
        write(&v4(&interface.name), "1")?;
    }
    let path = Path::new(ALL6);
    let found = match std::fs::read_to_string(path) {
        Ok(found) => found,
        // A kernel without IPv6 forwards none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(DataplaneError::Sysctl { path: path.into(), source }),
    };
    if found.trim() == "1" {
        return Ok(());
    }
    pins.note(ALL6_NOTE, found.trim())?;
    write(path, "1")
}

/// Back to what new interfaces of this namespace get. Before the program goes, so that nothing of the groups'
/// traffic is ever forwarded without it. Answers whether this is the namespace that the interface is in.
///
/// Only for the very interface the link is on: it may be gone, and one of the same name and number may stand in
/// the namespace that this runs in. Hardware addresses tell them apart.
pub(crate) fn restore(pins: &Pins, name: &str) -> Result<bool, DataplaneError> {
    let Ok(found) = Interface::read(&[name.to_owned()]) else { return Ok(false) };
    let interface = &found[0];
    if pins.tc_link_index(name)? != Some(interface.index) {
        return Ok(false);
    }
    let path = pins.map(names::INTERFACES);
    let known: Map<u32, InterfaceValue> = Map::open(&path).map_err(DataplaneError::pin(&path))?;
    let known = known.get(&interface.index).map_err(DataplaneError::map(names::INTERFACES))?;
    if known.is_none_or(|known| known.mac != interface.mac) {
        return Ok(false);
    }
    let path = v4("default");
    let default = std::fs::read_to_string(&path).map_err(|source| DataplaneError::Sysctl { path, source })?;
    write(&v4(name), if default.trim() == "1" { "1" } else { "0" })?;
    Ok(true)
}

/// Back to what it was before this dataplane.
pub(crate) fn restore_all(pins: &Pins) -> Result<(), DataplaneError> {
    match pins.noted(ALL6_NOTE)? {
        Some(value) => write(Path::new(ALL6), &value),
        None => Ok(()),
    }
}

fn v4(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

fn write(path: &Path, value: &str) -> Result<(), DataplaneError> {
    std::fs::write(path, value).map_err(|source| DataplaneError::Sysctl { path: path.into(), source })
}
