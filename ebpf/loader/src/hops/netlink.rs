//! rtnetlink sockets: one that listens, one that asks for neighbours' use, and one for each full read.

mod wire;

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use lockstep_abi::hop::HopKey;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::event::HopEvent;
use super::table::Snapshot;

/// `RTNLGRP_*` of `linux/rtnetlink.h`, as bits: links, neighbours, and all that routes depend on. Next hop objects
/// (32) tell of themselves only: routes that use a changed one are not announced.
const GROUPS: u32 = group(1) // LINK
    | group(3) // NEIGH
    | group(5) // IPV4_IFADDR
    | group(7) // IPV4_ROUTE
    | group(8) // IPV4_RULE
    | group(9) // IPV6_IFADDR
    | group(11) // IPV6_ROUTE
    | group(19) // IPV6_RULE
    | group(24) // IPV4_NETCONF
    | group(25) // IPV6_NETCONF
    | group(32); // NEXTHOP

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// The kernel's answers are at most 32 KiB a datagram, whatever room there is.
const DATAGRAM: usize = 64 * 1024;
/// A dump is answered as fast as it is read; longer than this means that something is wrong.
const DUMP_TIMEOUT: Duration = Duration::from_secs(5);
/// Dumps that a change interrupted are begun again this often.
const DUMP_ATTEMPTS: usize = 5;
/// Rows of a dump; a table beyond that is not tracked anyway.
const MAX_ROWS: usize = 1 << 17;

/// What the listening socket has.
pub(super) enum Heard {
    /// These, and perhaps more.
    Events(Vec<HopEvent>),
    /// Nothing more now.
    Nothing,
    /// Events are missing, or could not be understood.
    Lost(&'static str),
}

/// The socket that listens.
pub(super) struct Listener {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Listener {
    /// Hears everything that happens from now on. `receive_buffer`: bytes, as much as the kernel charges for.
    pub(super) fn open(receive_buffer: usize) -> io::Result<Self> {
        let socket = open(SockFlag::SOCK_NONBLOCK)?;
        setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM] })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// One datagram's events.
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        let length = match receive(&self.socket, &mut self.buffer) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(Heard::Events(Vec::new())),
            Err(Errno::EAGAIN) => return Ok(Heard::Nothing),
            Err(Errno::EINTR) => return Ok(Heard::Events(Vec::new())),
            Err(Errno::ENOBUFS) => return Ok(Heard::Lost("the receive buffer was full")),
            Err(errno) => return Err(errno.into()),
        };
        let Some(bytes) = self.buffer.get(..length) else {
            return Ok(Heard::Lost("a datagram was longer than any should be"));
        };
        let mut events = Vec::new();
        for message in wire::messages(bytes) {
            match message.and_then(|message| message.event()) {
                Ok(event) => events.extend(event),
                Err(wire::Malformed) => return Ok(Heard::Lost("a message could not be understood")),
            }
        }
        Ok(Heard::Events(events))
    }
}

/// Reads all links and neighbours, and what rules ask for.
pub(super) fn read_all() -> io::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for event in dump(libc::RTM_GETLINK)? {
        if let HopEvent::Link(link) = event {
            snapshot.links.push(link);
        }
    }
    for event in dump(libc::RTM_GETNEIGH)? {
        if let HopEvent::Neighbour(neighbour) = event {
            snapshot.neighbours.push(neighbour);
        }
    }
    for event in dump(libc::RTM_GETRULE)? {
        snapshot.by_destination &= event != HopEvent::Rule(true);
    }
    Ok(snapshot)
}

/// All of one kind. Again from the start if it changed meanwhile: rows may have been skipped.
fn dump(kind: u16) -> io::Result<Vec<HopEvent>> {
    for _ in 0..DUMP_ATTEMPTS {
        if let Some(rows) = dump_once(kind)? {
            return Ok(rows);
        }
    }
    Err(io::Error::other(format!(
        "a list of links, neighbours or rules changed while it was read, {DUMP_ATTEMPTS} times"
    )))
}

/// `None`: interrupted.
fn dump_once(kind: u16) -> io::Result<Option<Vec<HopEvent>>> {
    const SEQUENCE: u32 = 1;
    let socket = open(SockFlag::empty())?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(DUMP_TIMEOUT.as_secs() as i64))?;
    send(socket.as_raw_fd(), &wire::dump(kind, SEQUENCE), MsgFlags::empty())?;
    let deadline = Instant::now() + DUMP_TIMEOUT;
    let mut buffer = vec![0; DATAGRAM];
    let mut rows = Vec::new();
    let mut interrupted = false;
    let malformed = |wire::Malformed| io::Error::other("an answer of the kernel could not be understood");
    while Instant::now() < deadline {
        let length = match receive(&socket, &mut buffer) {
            Ok(Some(length)) => length,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let bytes = buffer.get(..length).ok_or_else(|| malformed(wire::Malformed))?;
        for message in wire::messages(bytes) {
            let message = message.map_err(malformed)?;
            if message.sequence != SEQUENCE {
                continue;
            }
            interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok((!interrupted).then_some(rows)),
                libc::NLMSG_ERROR => {
                    return Err(io::Error::from_raw_os_error(message.errno().map_err(malformed)?));
                }
                _ => rows.extend(message.event().map_err(malformed)?),
            }
        }
        if rows.len() > MAX_ROWS {
            return Err(io::Error::other(format!(
                "there are more than {MAX_ROWS} links, neighbours or rules"
            )));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The socket that tells the kernel which neighbours are in use.
pub(super) struct Requests {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: open(SockFlag::SOCK_NONBLOCK)?, buffer: vec![0; DATAGRAM], sequence: 0 })
    }

    /// Tells the kernel that the neighbour is in use. `false`: there is no such neighbour any more.
    pub(super) fn use_neighbour(&mut self, key: &HopKey) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        send(self.socket.as_raw_fd(), &wire::use_neighbour(key, self.sequence), MsgFlags::empty())?;
        // rtnetlink works within the call: a refusal is there already, and an assent is not told.
        loop {
            let length = match receive(&self.socket, &mut self.buffer) {
                Ok(Some(length)) => length,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            };
            for message in wire::messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message.map_err(|_| io::Error::other("an answer could not be understood"))?;
                if message.sequence != self.sequence || i32::from(message.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                match message.errno() {
                    Ok(libc::ENOENT | libc::ENODEV) => return Ok(false),
                    Ok(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    Err(wire::Malformed) => {
                        return Err(io::Error::other("an answer could not be understood"));
                    }
                }
            }
        }
    }
}

fn open(flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?)
}

/// The length of a datagram of the kernel's, which may be more than there is room for; `None`: somebody else's.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> nix::Result<Option<usize>> {
    let mut room = [IoSliceMut::new(buffer)];
    let received = recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut room, None, MsgFlags::MSG_TRUNC)?;
    Ok(received.address.is_some_and(|from| from.pid() == 0).then_some(received.bytes))
}
