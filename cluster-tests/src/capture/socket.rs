//! A packet socket on one port of the switch.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, bail};
use nix::net::if_::if_nametoindex;

use crate::clock::Nanos;
use crate::sockopt;

/// Bytes kept of a frame: Ethernet, IPv4 without options, TCP without options, and some.
pub const SNAP: usize = 96;
const BATCH: usize = 64;
const CONTROL: usize = 64;
/// Frames a socket can hold while its reader is away, by memory.
const BUFFER_BYTES: libc::c_int = 64 << 20;

/// Which frames of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// All IPv4 and ARP frames that came from the machine behind the port.
    FromBehind,
    /// RST segments and ICMP destination-unreachable messages, both ways.
    Complaints,
}

/// A frame's beginning and when the kernel had it (CLOCK_REALTIME).
#[derive(Debug)]
pub struct Seen<'a> {
    /// Kernel timestamp.
    pub realtime: Nanos,
    /// The first [`SNAP`] bytes.
    pub bytes: &'a [u8],
}

/// The socket. Opened in the namespace of the calling thread.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens it on a port of the switch.
    pub fn open(port: &str, frames: Frames) -> anyhow::Result<Self> {
        // SAFETY: socket(2) with constant arguments; the descriptor is checked and then owned.
        let fd = unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                // No protocol yet: nothing is queued before the filter stands.
                0,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("cannot open a packet socket");
            }
            OwnedFd::from_raw_fd(fd)
        };
        let socket = PacketSocket { fd };
        let program = match frames {
            Frames::FromBehind => filter_ipv4_and_arp(),
            Frames::Complaints => filter_complaints(),
        };
        let attached =
            libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_ptr().cast_mut() };
        socket.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &attached)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER_BYTES)?;
        socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1)?;
        if frames == Frames::FromBehind {
            socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        }
        let index = if_nametoindex(port).with_context(|| format!("no port {port}"))?;
        // SAFETY: sockaddr_ll is plain data for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address is a valid sockaddr_ll of the length given.
        let bound = unsafe {
            libc::bind(
                socket.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if bound != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot capture on {port}"));
        }
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> anyhow::Result<()> {
        // SAFETY: the pointer and the length describe `value`.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("socket option {level}/{name}"));
        }
        Ok(())
    }

    /// Gives what is there to `take`; returns how many frames that were.
    pub fn drain(&self, mut take: impl FnMut(Seen<'_>)) -> anyhow::Result<usize> {
        let mut total = 0;
        loop {
            let count = self.receive_batch(&mut take)?;
            total += count;
            if count < BATCH {
                return Ok(total);
            }
        }
    }

    fn receive_batch(&self, take: &mut impl FnMut(Seen<'_>)) -> anyhow::Result<usize> {
        let mut frames = [[0u8; SNAP]; BATCH];
        let mut controls = [[0u64; CONTROL / 8]; BATCH];
        let mut vectors: [libc::iovec; BATCH] =
            std::array::from_fn(|i| libc::iovec { iov_base: frames[i].as_mut_ptr().cast(), iov_len: SNAP });
        let mut messages: [libc::mmsghdr; BATCH] = std::array::from_fn(|i| {
            // SAFETY: mmsghdr is plain data for which zero is valid.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_iov = &raw mut vectors[i];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = controls[i].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL;
            message
        });
        // SAFETY: every message points to buffers above that outlive the call, with their lengths.
        let count = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(0),
                // The port went down; it may come up again.
                Some(libc::ENETDOWN) => Ok(0),
                _ => Err(error).context("cannot receive from a packet socket"),
            };
        }
        for (message, frame) in messages[..count as usize].iter().zip(&frames) {
            let Some(realtime) = timestamp(&message.msg_hdr) else {
                bail!("a captured frame has no timestamp");
            };
            take(Seen { realtime, bytes: &frame[..(message.msg_len as usize).min(SNAP)] });
        }
        Ok(count as usize)
    }

    /// Frames the socket lost because its buffer was full.
    pub fn lost(&self) -> anyhow::Result<u64> {
        // SAFETY: numbers, and the option's own layout.
        let stats: libc::tpacket_stats =
            unsafe { sockopt::get(&self.fd, libc::SOL_PACKET, libc::PACKET_STATISTICS) }
                .context("cannot read a packet socket's statistics")?;
        Ok(u64::from(stats.tp_drops))
    }
}

fn timestamp(header: &libc::msghdr) -> Option<Nanos> {
    // SAFETY: the header was filled in by recvmmsg; its control buffer is still alive and aligned to eight bytes.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET && (*control).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                return Some(time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

const KEEP: u32 = SNAP as u32;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_BYTE_AT_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const HEADER_LENGTH_TO_X: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn op(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// IPv4 and ARP.
fn filter_ipv4_and_arp() -> Vec<libc::sock_filter> {
    vec![
        op(LOAD_HALF, 12, 0, 0),
        op(EQUAL, libc::ETH_P_IP as u32, 1, 0),
        op(EQUAL, libc::ETH_P_ARP as u32, 0, 1),
        op(RETURN, KEEP, 0, 0),
        op(RETURN, 0, 0, 0),
    ]
}

/// IPv4, and either TCP with RST in a first fragment, or ICMP of type 3.
fn filter_complaints() -> Vec<libc::sock_filter> {
    vec![
        op(LOAD_HALF, 12, 0, 0),
        op(EQUAL, libc::ETH_P_IP as u32, 0, 11),
        op(HEADER_LENGTH_TO_X, 14, 0, 0),
        op(LOAD_HALF, 20, 0, 0),
        op(ANY_BIT, 0x1fff, 8, 0),
        op(LOAD_BYTE, 23, 0, 0),
        op(EQUAL, libc::IPPROTO_TCP as u32, 0, 2),
        op(LOAD_BYTE_AT_X, 14 + 13, 0, 0),
        op(ANY_BIT, 0x04, 3, 4),
        op(EQUAL, libc::IPPROTO_ICMP as u32, 0, 3),
        op(LOAD_BYTE_AT_X, 14, 0, 0),
        op(EQUAL, 3, 0, 1),
        op(RETURN, KEEP, 0, 0),
        op(RETURN, 0, 0, 0),
    ]
}
