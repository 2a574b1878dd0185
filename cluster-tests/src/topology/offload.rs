//! What devices do for the stack, and what a frame then looks like to whoever receives it.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::Context;

use super::{Side, Topology};
use crate::namespace::Handle;

/// One thing that a device can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Computing the checksums of what is sent. A veth device leaves them out, which a kernel at the other end knows,
    /// and a program that reads packets from a raw socket, or XDP in a driver, does not.
    SendChecksums,
    /// Joining received segments. A veth takes frames from XDP at its other end while it does this.
    Join,
}

impl Offload {
    /// `ETHTOOL_STXCSUM` and `ETHTOOL_SGRO` of `linux/ethtool.h`.
    const fn command(self) -> u32 {
        match self {
            Offload::SendChecksums => 0x17,
            Offload::Join => 0x2c,
        }
    }
}

/// Leaves the work to the device `interface` of `namespace`, or to the kernel.
pub fn set(namespace: &Handle, interface: &str, offload: Offload, on: bool) -> anyhow::Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const ETHTOOL: libc::c_ulong = 0x8946;
    namespace.run(|| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").context("cannot open a socket")?;
        let mut value = Value { command: offload.command(), data: u32::from(on) };
        // SAFETY: ifreq is plain data for which zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        anyhow::ensure!(interface.len() < request.ifr_name.len(), "{interface:?} is too long a name");
        for (slot, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *slot = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request is named, and its data is a struct ethtool_value that lives over the call.
        if unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) } != 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot switch {offload:?} of {interface}"));
        }
        Ok(())
    })
}

impl Topology {
    /// Makes the balancers' cables like wires, on which XDP in the driver can receive and send: frames are whole, and
    /// the switch takes what XDP sends.
    pub fn like_wires(&self) -> anyhow::Result<()> {
        for host in self.endpoints.iter().chain([&self.clients]) {
            set(host, "eth0", Offload::SendChecksums, false)?;
        }
        for node in self.balancers() {
            for side in [Side::Client, Side::Endpoint] {
                set(&self.switch, &side.port(node), Offload::Join, true)?;
            }
        }
        Ok(())
    }
}
