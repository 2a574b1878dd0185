//! Tells a segment that an address now lives at our MAC, after the kernel lease is open.
//!
//! IPv4 by gratuitous ARP, as a request and as a reply (hosts differ in which they learn from; RFC 5227 section 3).
//! IPv6 by an unsolicited neighbour advertisement to all nodes that overrides what they know (RFC 4861 section
//! 7.2.6). At 0, 10, 50 and 200 ms and at 1 s, because the first ones may be lost while switches relearn.

mod advertisement;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// When an announcement is repeated, counted from the moment the lease opened.
pub(crate) const SCHEDULE: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// How often what is owned is announced after that.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);
/// Apart so far at least: what every host of a segment has to read stays within 100 announcements a second, however
/// many addresses there are.
const APART: Duration = Duration::from_millis(10);

/// How long to wait between any two of so many addresses that each have their turn within [`REFRESH`], if they can.
pub(crate) fn pause_between(addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    (REFRESH / addresses).max(APART)
}

/// What may be announced while the lease lasts, which is looked at before each: whoever was held up since the last one
/// speaks for an address no more that another may own by now.
pub(crate) fn while_held<T>(answers: Vec<T>, held: impl Fn() -> bool) -> impl Iterator<Item = T> {
    answers.into_iter().take_while(move |_| held())
}

/// One address on one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) interface: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) address: IpAddr,
}

const BROADCAST: [u8; 6] = [0xff; 6];
const FRAME: usize = 42;

#[derive(Clone, Copy)]
enum Operation {
    Request = 1,
    Reply = 2,
}

/// A packet socket that announcements leave by.
pub(crate) struct Announcer {
    socket: OwnedFd,
}

impl Announcer {
    /// Opens the socket; needs CAP_NET_RAW.
    pub(crate) fn open() -> nix::Result<Self> {
        // Protocol 0: a socket that only sends and receives nothing.
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>)?;
        Ok(Self { socket })
    }

    /// Sends every form once. The error of the first that failed.
    pub(crate) fn send(&self, announcement: &Announcement) -> nix::Result<()> {
        let Announcement { interface, mac, address } = *announcement;
        match address {
            IpAddr::V4(v4) => {
                self.send_frame(interface, &frame(mac, v4, Operation::Request))?;
                self.send_frame(interface, &frame(mac, v4, Operation::Reply))
            }
            IpAddr::V6(v6) => self.send_frame(interface, &advertisement::frame(mac, v6)),
        }
    }

    fn send_frame(&self, interface: u32, frame: &[u8]) -> nix::Result<()> {
        // SAFETY: sockaddr_ll is plain old data; all zeroes is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = interface as i32;
        to.sll_halen = 6;
        to.sll_addr[..6].copy_from_slice(&frame[..6]);
        // SAFETY: `frame` and `to` live through the call and their lengths are theirs.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        nix::errno::Errno::result(sent).map(drop)
    }
}

fn frame(mac: [u8; 6], address: Ipv4Addr, operation: Operation) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let address = address.octets();
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]); // Ethernet, IPv4, address lengths
    frame[20..22].copy_from_slice(&(operation as u16).to_be_bytes());
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address);
    // Of a reply Linux believes that it is gratuitous, and so even what it learnt a moment ago to be over, only if both
    // hardware addresses are the same (`arp_is_garp`; RFC 5944 section 4.6 asks for that too).
    frame[32..38].copy_from_slice(match operation {
        Operation::Request => &[0; 6],
        Operation::Reply => &mac,
    });
    frame[38..42].copy_from_slice(&address);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_name_our_mac_for_the_address() {
        let mac = [2, 0, 0, 0, 0, 1];
        for (operation, code) in [(Operation::Request, 1), (Operation::Reply, 2)] {
            let frame = frame(mac, Ipv4Addr::new(192, 0, 2, 10), operation);
            assert_eq!(&frame[..6], &BROADCAST);
            assert_eq!(frame[21], code);
            assert_eq!(&frame[22..28], &mac, "sender hardware address");
            assert_eq!(&frame[28..32], &[192, 0, 2, 10], "sender protocol address");
            let target = if code == 1 { [0; 6] } else { mac };
            assert_eq!(&frame[32..38], &target, "target hardware address");
            assert_eq!(&frame[38..42], &[192, 0, 2, 10], "target protocol address");
        }
    }

    #[test]
    fn i3_nothing_is_announced_once_the_lease_is_over() {
        let left = std::cell::Cell::new(2);
        let held = || left.replace(left.get() - 1) > 0;
        assert_eq!(while_held(vec![1, 2, 3, 4], held).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(while_held(vec![1], || false).count(), 0);
    }

    #[test]
    fn i13_many_addresses_are_announced_no_faster_than_the_limit() {
        assert_eq!(pause_between(0), REFRESH);
        assert_eq!(pause_between(1), REFRESH);
        assert_eq!(pause_between(10) * 10, REFRESH);
        assert_eq!(pause_between(100_000), APART);
    }
}
