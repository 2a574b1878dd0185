//! What an interface's driver says of itself (ethtool(8)), in the network namespace this runs in.

use std::mem::zeroed;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 0x03;
/// `linux/ethtool.h`.
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `linux/ethtool.h`.
const ETHTOOL_GFLAGS: u32 = 0x25;
/// `enum ethtool_flags`, by the names ethtool(8) knows them by.
const RECEIVE_OFFLOADS: [(u32, &str); 2] = [(1 << 15, "lro"), (1 << 8, "rxvlan")];

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}
const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `struct ethtool_channels`.
#[repr(C)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// Pairs of a receive and a send queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queues {
    pub(super) used: u32,
    pub(super) most: u32,
}

impl Queues {
    pub(super) fn spare(self) -> u32 {
        self.most.saturating_sub(self.used)
    }
}

/// The driver's name; `None`: the kernel knows none.
pub(super) fn name(interface: &str) -> Option<String> {
    // SAFETY: plain integers.
    let mut info: DriverInfo = unsafe { zeroed() };
    info.command = ETHTOOL_GDRVINFO;
    ask(interface, &mut info)?;
    let length = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
    let name = String::from_utf8_lossy(&info.driver[..length]).into_owned();
    Some(name).filter(|name| !name.is_empty())
}

/// Its queues; `None`: it does not tell.
pub(super) fn queues(interface: &str) -> Option<Queues> {
    // SAFETY: plain integers.
    let mut channels: Channels = unsafe { zeroed() };
    channels.command = ETHTOOL_GCHANNELS;
    ask(interface, &mut channels)?;
    Some(Queues { used: channels.combined, most: channels.max_combined })
}

/// `struct ethtool_value`.
#[repr(C)]
struct Flags {
    command: u32,
    data: u32,
}

/// Which of [`RECEIVE_OFFLOADS`] are on.
pub(super) fn offloads(interface: &str) -> Vec<&'static str> {
    let mut flags = Flags { command: ETHTOOL_GFLAGS, data: 0 };
    if ask(interface, &mut flags).is_none() {
        return Vec::new();
    }
    let on = RECEIVE_OFFLOADS.iter().filter(|(bit, _)| flags.data & bit != 0);
    on.map(|(_, name)| *name).collect()
}

/// `request` must be one of the structs above, with its command.
fn ask<T>(interface: &str, request: &mut T) -> Option<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // SAFETY: plain integers and a union of them.
    let mut asked: libc::ifreq = unsafe { zeroed() };
    if interface.len() >= asked.ifr_name.len() {
        return None;
    }
    for (to, byte) in asked.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = byte as libc::c_char;
    }
    asked.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: the kernel reads the name and the command, and fills no more than the command's struct.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, std::ptr::from_mut(&mut asked)) };
    (result == 0).then_some(())
}
