//! The faults.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use crate::clock::{self, Nanos};
use crate::cluster::Cluster;
use crate::harm::{self, Harm};
use crate::process::Process;
use crate::topology::{Node, Side, Topology};
use crate::wait;

/// What happens to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// SIGKILL of everything on it and all its links cut at once.
    Power,
    /// SIGKILL of its `lockstepd`, not restarted.
    Kill,
    /// SIGSTOP for ten leases, then SIGCONT.
    Pause,
    /// Its client-side link goes down.
    Link,
    /// An operator has it own nothing: `lockstep node drain`.
    Drain,
}

impl Fault {
    /// As on the command line and in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Power => "power",
            Fault::Kill => "kill",
            Fault::Pause => "pause",
            Fault::Link => "link",
            Fault::Drain => "drain",
        }
    }
}

/// Something that happened at a node, on the harness's clock.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Nanos,
    /// Where.
    pub node: &'static str,
    /// What.
    pub event: String,
}

/// A fault that was injected.
#[derive(Debug)]
pub struct Injected {
    /// The moment before the first action.
    pub at: Nanos,
    /// What was done.
    pub events: Vec<Event>,
}

/// How many leases a paused node sleeps.
const PAUSE_LEASES: u32 = 10;

/// Does `fault` to `node`, and waits for nothing: see [`end`].
pub fn inject(cluster: &mut Cluster, node: Node, fault: Fault) -> anyhow::Result<Injected> {
    let ports = PortSwitch::open(&cluster.topology)?;
    let mut events = Vec::new();
    let at = clock::now();
    let mut note =
        |event: &str| events.push(Event { at: clock::now(), node: node.name(), event: event.to_owned() });
    match fault {
        Fault::None => note("no fault"),
        Fault::Power => {
            cut_power(cluster.process(node)?, &ports, node)?;
            note("killed, all links cut");
        }
        Fault::Kill => {
            cluster.process(node)?.signal(Signal::SIGKILL)?;
            note("killed");
        }
        Fault::Pause => {
            cluster.process(node)?.signal(Signal::SIGSTOP)?;
            note("stopped");
        }
        Fault::Link => {
            ports.down(&Side::Client.port(node))?;
            note("client-side link cut");
        }
        Fault::Drain => {
            cluster.lockstep(node, &["node", "drain", node.name()])?;
            note("drained");
        }
    }
    Ok(Injected { at, events })
}

/// SIGKILL of what runs at a balancer, and all its links cut.
pub fn cut_power(process: &Process, ports: &PortSwitch, node: Node) -> anyhow::Result<()> {
    // Dead before its links go, so that it cannot see them go and give its lease back in good order.
    process.signal(Signal::SIGKILL)?;
    Side::of(node).iter().try_for_each(|side| ports.down(&side.port(node)))
}

/// Makes a balancer again what it was before the fault: links up, and what was killed started, with an empty kernel if
/// its power was cut. Returns when it is ready to take over.
pub fn heal(cluster: &mut Cluster, node: Node, fault: Fault) -> anyhow::Result<()> {
    if fault == Fault::Drain {
        cluster.lockstep(node, &["node", "undrain", node.name()])?;
    }
    let harm = match fault {
        Fault::None | Fault::Pause | Fault::Drain => None,
        Fault::Power => Some(Harm::PowerLost(node)),
        Fault::Kill => Some(Harm::Killed(node)),
        Fault::Link => Some(Harm::Cut(node, Side::Client)),
    };
    if matches!(fault, Fault::Power | Fault::Kill) {
        cluster.process(node)?.kill()?;
    }
    harm::heal(cluster, harm.into_iter().collect())?;
    cluster.wait_ready().map(drop)
}

/// Ends what a fault began: a pause, once it has lasted ten leases, and the exit of what was killed.
pub fn end(
    cluster: &mut Cluster,
    node: Node,
    fault: Fault,
    at: Nanos,
    lease: Duration,
) -> anyhow::Result<Vec<Event>> {
    match fault {
        Fault::None | Fault::Link | Fault::Drain => Ok(Vec::new()),
        Fault::Power | Fault::Kill => {
            cluster.process(node)?.kill()?;
            Ok(Vec::new())
        }
        Fault::Pause => {
            let elapsed = Duration::from_nanos(clock::now() - at);
            wait::pass((lease * PAUSE_LEASES).saturating_sub(elapsed))?;
            cluster.process(node)?.signal(Signal::SIGCONT)?;
            Ok(vec![Event { at: clock::now(), node: node.name(), event: "woken".to_owned() }])
        }
    }
}

/// Sets ports of the switch down by ioctl: no process is started between one port and the next.
#[derive(Debug)]
pub struct PortSwitch {
    socket: OwnedFd,
}

impl PortSwitch {
    /// For the switch of this network.
    pub fn open(topology: &Topology) -> anyhow::Result<Self> {
        // An interface ioctl acts in the namespace its socket was made in.
        let socket = topology.switch.run(|| {
            // SAFETY: socket(2) with constant arguments; the descriptor is checked and then owned.
            unsafe {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
                if fd < 0 {
                    return Err(io::Error::last_os_error()).context("cannot open a socket");
                }
                Ok(OwnedFd::from_raw_fd(fd))
            }
        })?;
        Ok(PortSwitch { socket })
    }

    fn down(&self, port: &str) -> anyhow::Result<()> {
        // SAFETY: ifreq is plain data for which zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if port.len() >= request.ifr_name.len() {
            bail!("{port:?} is too long for an interface's name");
        }
        for (slot, byte) in request.ifr_name.iter_mut().zip(port.bytes()) {
            *slot = byte as libc::c_char;
        }
        // SAFETY: the request is valid and named; the kernel fills in the flags, which are then initialised.
        let result = unsafe {
            match libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) {
                0 => {
                    request.ifr_ifru.ifru_flags &= !(libc::IFF_UP as libc::c_short);
                    libc::ioctl(self.socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
                }
                error => error,
            }
        };
        if result != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot set port {port} down"));
        }
        Ok(())
    }
}
