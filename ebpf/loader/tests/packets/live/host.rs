//! A host at the other end of one of the rig's links.

use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::case::{Family, Side};
use crate::rig::ip;

/// What its device does for the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Offload {
    /// As a veth comes: checksums and segments are left to whoever receives.
    All,
    /// Only what lets XDP send to it; what it sends itself is whole, as on a wire.
    Receive,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a namespace of its own.
pub(super) struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// The host whose address ends in `host`. It sends by way of `gateway`, which over IPv6 it need not ask for its MAC.
    pub(super) fn new(net: Family, side: Side, host: u8, gateway: IpAddr, offload: Offload) -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (ready, started) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            inbox.into_iter().for_each(|job| job());
        });
        let id = started.recv().unwrap();
        let link = format!("{}1", side.link());
        ip(&format!("link set {link} netns {id}"));
        let this = Self { jobs: Some(jobs), thread: Some(thread) };
        this.run(move || {
            let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
            let (address, bits) = (net.host(side, host), net.network_bits());
            ip("link set lo up");
            ip(&format!("link set {link} address {}", text(side.mac(host))));
            let nodad = if net == Family::V6 { "nodad" } else { "" };
            ip(&format!("addr add {address}/{bits} dev {link} {nodad}"));
            if offload == Offload::Receive {
                set(&link, SET_SEND_CHECKSUMS, false);
            }
            ip(&format!("link set {link} up"));
            if offload == Offload::Receive {
                set(&link, SET_RECEIVE_AGGREGATES, true);
            }
            if net == Family::V6 {
                ip(&format!("neigh add {gateway} lladdr {} dev {link} nud permanent", text(side.own_mac())));
            }
            if side == Side::Endpoints {
                ip(&format!("route add default via {gateway}"));
            }
        })
        .recv()
        .unwrap();
        this
    }

    /// Runs a job in the host's namespace; its result comes through the channel.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            // Nobody listens any more when the test has failed already.
            let _ = done.send(job());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.take().unwrap();
        if !std::thread::panicking() {
            thread.join().unwrap();
        }
    }
}

/// `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_STXCSUM` of linux/ethtool.h.
pub(super) const SET_SEND_CHECKSUMS: u32 = 0x17;
/// `ETHTOOL_SGRO`. A veth takes frames from XDP while its own end has XDP or this.
const SET_RECEIVE_AGGREGATES: u32 = 0x2c;

/// Switches an offload.
pub(super) fn set(link: &str, command: u32, on: bool) {
    let mut value = [command, u32::from(on)];
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
    // SAFETY: plain integers and a union of them.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the kernel reads the name and the command with its value.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, std::ptr::from_mut(&mut request)) };
    assert_eq!(result, 0, "{link}: {}", std::io::Error::last_os_error());
}
