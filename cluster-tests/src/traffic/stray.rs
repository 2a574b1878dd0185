//! Stray packets: datagrams of one live flow, sent to the MAC address of *every* balancer all the time, as a
//! switch or a host with a stale entry would. Whoever holds the lease translates them, nobody else may. They
//! keep a former owner under test after everybody else has turned to the new one.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use nix::net::if_::if_nametoindex;

use super::flood::datagram;
use crate::namespace::Handle;
use crate::topology::Topology;
use crate::workers::Workers;

const INTERFACE: &str = "eth0";
const INTERVAL: Duration = Duration::from_millis(2);
/// No ephemeral port, so no other client has it.
const PORT: u16 = 4_000;

/// A hardware address.
pub type Mac = [u8; 6];

/// The sender; stopped when dropped.
#[derive(Debug)]
pub struct Strays {
    workers: Workers<()>,
}

impl Strays {
    /// Begins to send from `source` to the UDP service by way of each balancer's client side.
    pub fn start(topology: &Topology, source: Ipv4Addr, service: SocketAddrV4) -> anyhow::Result<Self> {
        let from = mac(&topology.clients, INTERFACE)?;
        let datagram = datagram(SocketAddrV4::new(source, PORT), service);
        let frames = topology
            .balancers()
            .map(|node| Ok(frame(mac(topology.node(node), INTERFACE)?, from, &datagram)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let socket = topology.clients.run(|| FrameSocket::open(INTERFACE))?;
        let mut workers = Workers::new("stray packets");
        workers.spawn_in(&topology.clients, "strays", move |stop| {
            while !stop.requested() {
                for frame in &frames {
                    socket.send(frame)?;
                }
                std::thread::sleep(INTERVAL);
            }
            Ok(())
        })?;
        Ok(Strays { workers })
    }

    /// Stops and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<()> {
        self.workers.stop().map(drop)
    }
}

/// The hardware address of an interface in a namespace.
pub fn mac(namespace: &Handle, interface: &str) -> anyhow::Result<Mac> {
    let found = namespace.run(|| {
        let addresses = nix::ifaddrs::getifaddrs().context("cannot list interfaces")?;
        Ok(addresses
            .filter(|a| a.interface_name == interface)
            .find_map(|a| a.address.as_ref()?.as_link_addr()?.addr()))
    })?;
    found.with_context(|| format!("{interface} in {} has no hardware address", namespace.name()))
}

/// An Ethernet frame around an IPv4 packet, whose header checksum is computed here.
pub fn frame(to: Mac, from: Mac, packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(14 + packet.len());
    bytes.extend(to);
    bytes.extend(from);
    bytes.extend((libc::ETH_P_IP as u16).to_be_bytes());
    bytes.extend(packet);
    let header = &mut bytes[14..34];
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The Internet checksum (RFC 1071).
pub fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A socket that sends whole frames.
#[derive(Debug)]
pub struct FrameSocket {
    fd: OwnedFd,
    address: libc::sockaddr_ll,
}

impl FrameSocket {
    /// On an interface of the calling thread's namespace.
    pub fn open(interface: &str) -> anyhow::Result<Self> {
        let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        // SAFETY: socket(2) with constant arguments; the descriptor is checked and then owned.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("cannot open a packet socket");
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: sockaddr_ll is plain data for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        Ok(FrameSocket { fd, address })
    }

    /// Sends one frame. A full queue or a port without carrier loses it, as networks do.
    pub fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        // SAFETY: the frame and the address are valid for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const self.address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 {
            let error = io::Error::last_os_error();
            let lost = [libc::ENOBUFS, libc::ENETDOWN, libc::EAGAIN, libc::EINTR];
            if !error.raw_os_error().is_some_and(|code| lost.contains(&code)) {
                return Err(error).context("cannot send a frame");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_checksum_is_right() {
        let packet = datagram("192.0.2.101:4000".parse().unwrap(), "192.0.2.10:53".parse().unwrap());
        let frame = frame([2; 6], [4; 6], &packet);
        // Over a header with its checksum in place the sum is zero.
        assert_eq!(checksum(&frame[14..34]), 0);
    }
}
