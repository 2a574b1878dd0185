//! New flows at a given rate: one SYN for each, written to the clients' interface by a packet socket. From there on it is a
//! packet like any other: link, switch, the owner's programs, the endpoint's link.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lockstep_abi::flow::FlowKey4;
use lockstep_cluster_tests::interrupt;
use lockstep_cluster_tests::namespace::Handle;
use socket2::{Domain, Socket, Type};

use crate::interface::interface;
use crate::packet::{End, Mac, SYN, tcp};

/// Packets of one system call. The queue behind a link holds a thousand.
const BURST: usize = 64;
/// Between two looks at the clock.
const PAUSE: Duration = Duration::from_micros(100);
/// Clients: neighbours of the balancers that nobody else is.
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 16);
const CLIENTS: u32 = 84;
const FIRST_PORT: u16 = 2048;
const PORTS: u32 = 60_000;
/// More flows than this would be the first ones again.
pub(crate) const MAX_FLOWS: u32 = CLIENTS * PORTS;

const SIZE: usize = 60;
const SOURCE: usize = 14 + 12;
const IP_CHECKSUM: usize = 14 + 10;
const PORT: usize = 14 + 20;
const TCP_CHECKSUM: usize = 14 + 20 + 16;

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) flows: u64,
    /// From the first to the last packet.
    pub(crate) time: Duration,
}

/// Makes flows, each of which is new.
pub(crate) struct Generator {
    socket: OwnedFd,
    template: Vec<u8>,
    service: (Ipv4Addr, u16),
    next: u32,
}

impl Generator {
    /// Sends from `device` in `clients` to the owner of `service`, whose hardware address is `owner`.
    pub(crate) fn open(
        clients: &Handle,
        device: &str,
        owner: Mac,
        service: (Ipv4Addr, u16),
    ) -> anyhow::Result<Self> {
        let (socket, own) = clients.run(|| {
            let (index, own) = interface(device)?;
            Ok((packet_socket(index)?, own))
        })?;
        let from = End { mac: own, address: FIRST_CLIENT.into(), port: FIRST_PORT };
        let to = End { mac: owner, address: service.0.into(), port: service.1 };
        Ok(Generator { socket, template: tcp(from, to, SYN, SIZE, 0), service, next: 0 })
    }

    /// How many flows can still be made.
    pub(crate) fn left(&self) -> u32 {
        MAX_FLOWS - self.next
    }

    /// Makes `flows` new ones at `per_second`, or as fast as it can, and tells `samples` every `nth`.
    pub(crate) fn run(
        &mut self,
        per_second: Option<u32>,
        flows: u32,
        samples: Option<(u32, &Sender<FlowKey4>)>,
    ) -> anyhow::Result<Sent> {
        ensure!(flows <= self.left(), "{flows} flows more than there are addresses for");
        let mut frames: Vec<Vec<u8>> = vec![self.template.clone(); BURST];
        let begin = Instant::now();
        let mut sent = 0u32;
        while sent < flows {
            let due =
                per_second.map_or(flows, |rate| (begin.elapsed().as_secs_f64() * f64::from(rate)) as u32);
            let due = due.min(flows).saturating_sub(sent).min(BURST as u32);
            if due == 0 {
                std::thread::sleep(PAUSE);
                continue;
            }
            for offset in 0..due {
                let flow = self.next + offset;
                address(&mut frames[offset as usize], &self.template, flow);
                if let Some((nth, samples)) = &samples
                    && (sent + offset).is_multiple_of(*nth)
                {
                    // Who listens may have had enough.
                    let _gone = samples.send(self.key(flow));
                }
            }
            let done = send(&self.socket, &frames[..due as usize]).context("cannot send a burst")?;
            sent += done;
            self.next += done;
            interrupt::check()?;
        }
        Ok(Sent { flows: sent.into(), time: begin.elapsed() })
    }

    /// Makes new ones at `per_second` until `over` says so.
    pub(crate) fn run_until(&mut self, per_second: u32, over: &AtomicBool) -> anyhow::Result<Sent> {
        let begin = Instant::now();
        let mut flows = 0;
        while !over.load(Ordering::Relaxed) {
            let due = (begin.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
            let due = u32::try_from(due.saturating_sub(flows))?.min(BURST as u32);
            if due == 0 {
                std::thread::sleep(PAUSE);
                continue;
            }
            flows += self.run(None, due, None)?.flows;
        }
        Ok(Sent { flows, time: begin.elapsed() })
    }

    fn key(&self, flow: u32) -> FlowKey4 {
        let (client, port) = client(flow);
        FlowKey4 {
            source_be: u32::from(client).to_be(),
            destination_be: u32::from(self.service.0).to_be(),
            source_port_be: port.to_be(),
            destination_port_be: self.service.1.to_be(),
            protocol: libc::IPPROTO_TCP as u8,
            pad: [0; 3],
        }
    }
}

fn client(flow: u32) -> (Ipv4Addr, u16) {
    let address = u32::from(FIRST_CLIENT) + flow / PORTS;
    (address.into(), FIRST_PORT + (flow % PORTS) as u16)
}

/// The template's packet from another client, with its checksums put right.
fn address(frame: &mut [u8], template: &[u8], flow: u32) {
    let (client, port) = client(flow);
    frame.copy_from_slice(template);
    let change = |at: usize, new: u16| {
        let old = u16::from_be_bytes([template[at], template[at + 1]]);
        u32::from(!old) + u32::from(new)
    };
    let octets = client.octets();
    let low = u16::from_be_bytes([octets[2], octets[3]]);
    let addresses = change(SOURCE + 2, low);
    let ports = change(PORT, port);
    for (at, difference) in [(IP_CHECKSUM, addresses), (TCP_CHECKSUM, addresses + ports)] {
        let sum = u32::from(!u16::from_be_bytes([template[at], template[at + 1]])) + difference;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame[SOURCE + 2..SOURCE + 4].copy_from_slice(&low.to_be_bytes());
    frame[PORT..PORT + 2].copy_from_slice(&port.to_be_bytes());
}

/// Bound to an interface, past its queueing discipline, for sending only.
fn packet_socket(index: u32) -> anyhow::Result<OwnedFd> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("cannot open a packet socket")?;
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, whose address and size are given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    ensure!(set == 0, "cannot bypass the queueing discipline: {}", io::Error::last_os_error());
    // SAFETY: plain integers, for which zero is a value.
    let mut at: libc::sockaddr_ll = unsafe { zeroed() };
    at.sll_family = libc::AF_PACKET as u16;
    at.sll_ifindex = index as i32;
    // SAFETY: a whole sockaddr_ll and its size.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&at).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    ensure!(bound == 0, "cannot bind a packet socket: {}", io::Error::last_os_error());
    Ok(socket.into())
}

/// How many went out: at least one.
fn send(socket: &OwnedFd, frames: &[Vec<u8>]) -> io::Result<u32> {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: plain integers and pointers, for which zero is a value.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    loop {
        // SAFETY: as many messages as there are, each of one part, whose frames outlive the call.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, 0)
        };
        if sent > 0 {
            return Ok(sent as u32);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The link's queue is full: what was refused is sent again.
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => std::thread::yield_now(),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_any_client_is_as_if_made_for_it() {
        let to = End { mac: [2; 6], address: Ipv4Addr::new(192, 0, 2, 10).into(), port: 443 };
        let made = |flow: u32| {
            let (address, port) = client(flow);
            tcp(End { mac: [4; 6], address: address.into(), port }, to, SYN, SIZE, 0)
        };
        let template = made(0);
        let mut frame = template.clone();
        for flow in [0, 1, 59_999, 60_000, 1_234_567, MAX_FLOWS - 1] {
            address(&mut frame, &template, flow);
            assert_eq!(frame, made(flow), "flow {flow}");
        }
    }

    #[test]
    fn clients_are_neighbours_that_nobody_else_is() {
        assert_eq!(client(0), (Ipv4Addr::new(192, 0, 2, 16), 2048));
        assert_eq!(client(MAX_FLOWS - 1), (Ipv4Addr::new(192, 0, 2, 99), 62_047));
    }
}
