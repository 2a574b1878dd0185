//! The endpoint's end of a tunnel, in user space: it takes the outer headers off and gives what was inside to its
//! kernel by a tun device. Not every kernel has the modules for it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::ip::batch;
use crate::namespace::Handle;
use crate::workers::{Stop, Workers};

const DEVICE: &str = "tun0";
const TICK: Duration = Duration::from_millis(50);
const GUE_PORT: u16 = 6080;
const GUE_HEADER: usize = 4;
const IPIP: u8 = 4;
const IPV6: u8 = 41;

/// Packets that came in each kind of tunnel.
#[derive(Debug, Default)]
pub struct Counts {
    /// IPv4 in IPv4.
    pub ipip: AtomicU64,
    /// IPv4 in IPv6.
    pub ipv4_in_ipv6: AtomicU64,
    /// IPv6 in IPv6.
    pub ipv6_in_ipv6: AtomicU64,
    /// GUE.
    pub gue: AtomicU64,
    /// What was none of it.
    pub malformed: AtomicU64,
}

/// A running tunnel end; stopped when dropped.
#[derive(Debug)]
pub struct Tunnel {
    workers: Workers<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipip,
    Ipv4InIpv6,
    Ipv6InIpv6,
    Gue,
}

impl Tunnel {
    /// Starts it.
    pub fn start(namespace: &Handle, counts: &Arc<Counts>) -> anyhow::Result<Self> {
        let device = namespace.run(open_device)?;
        batch(namespace.name(), &[format!("link set {DEVICE} mtu 1500 up")])?;
        namespace.sysctl(&[
            (&format!("net/ipv4/conf/{DEVICE}/rp_filter"), "0"),
            (&format!("net/ipv6/conf/{DEVICE}/disable_ipv6"), "0"),
        ])?;
        let mut workers = Workers::new("tunnel");
        for kind in [Kind::Ipip, Kind::Ipv4InIpv6, Kind::Ipv6InIpv6, Kind::Gue] {
            let socket = namespace.run(|| open(kind)).with_context(|| format!("{kind:?}"))?;
            let (device, counts) = (device.try_clone()?, Arc::clone(counts));
            workers.spawn_in(namespace, &format!("{kind:?}"), move |stop| {
                receive(kind, socket, device, stop, &counts)
            })?;
        }
        Ok(Tunnel { workers })
    }

    /// Stops it and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<()> {
        self.workers.stop().map(drop)
    }
}

fn open_device() -> anyhow::Result<File> {
    let device =
        File::options().read(true).write(true).open("/dev/net/tun").context("cannot open /dev/net/tun")?;
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is valid and named.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot make a tun device");
    }
    Ok(device)
}

fn open(kind: Kind) -> anyhow::Result<Socket> {
    let raw =
        |domain, protocol: u8| Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))));
    let socket = match kind {
        Kind::Ipip => raw(Domain::IPV4, IPIP)?,
        Kind::Ipv4InIpv6 => raw(Domain::IPV6, IPIP)?,
        Kind::Ipv6InIpv6 => raw(Domain::IPV6, IPV6)?,
        Kind::Gue => {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
            take_zero_checksums(&socket)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, GUE_PORT)).into())?;
            socket
        }
    };
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

/// As tunnels do over IPv6 (RFC 6935).
fn take_zero_checksums(socket: &Socket) -> anyhow::Result<()> {
    const UDP_NO_CHECK6_RX: libc::c_int = 102;
    let on: libc::c_int = 1;
    // SAFETY: the value is an int, of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as u32,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot take zero checksums");
    }
    Ok(())
}

fn receive(
    kind: Kind,
    mut socket: Socket,
    mut device: File,
    stop: &Stop,
    counts: &Counts,
) -> anyhow::Result<()> {
    let mut bytes = vec![0; 65_536];
    while !stop.requested() {
        let got = match socket.read(&mut bytes) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        match inner(kind, &bytes[..got]) {
            Ok(inner) => {
                let counter = match kind {
                    Kind::Ipip => &counts.ipip,
                    Kind::Ipv4InIpv6 => &counts.ipv4_in_ipv6,
                    Kind::Ipv6InIpv6 => &counts.ipv6_in_ipv6,
                    Kind::Gue => &counts.gue,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                device.write_all(inner).context("cannot write to the tun device")?;
            }
            Err(error) => {
                eprintln!("{kind:?}: {error:#}");
                counts.malformed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// What the outer headers hold. The kernel has taken off an outer IPv6 or UDP header, and checked it.
fn inner(kind: Kind, bytes: &[u8]) -> anyhow::Result<&[u8]> {
    let first = |at: usize| bytes.get(at).copied().context("too short");
    let (start, version) = match kind {
        Kind::Ipip => (usize::from(first(0)? & 0x0f) * 4, 4),
        Kind::Ipv4InIpv6 => (0, 4),
        Kind::Ipv6InIpv6 => (0, 6),
        Kind::Gue => {
            ensure!(
                first(0)? == 0 && first(2)? == 0 && first(3)? == 0,
                "GUE header {:?}",
                &bytes[..GUE_HEADER]
            );
            let version = match first(1)? {
                IPIP => 4,
                IPV6 => 6,
                other => anyhow::bail!("GUE holds protocol {other}"),
            };
            (GUE_HEADER, version)
        }
    };
    let inner = bytes.get(start..).context("too short")?;
    let found = inner.first().context("nothing inside")? >> 4;
    ensure!(found == version, "a packet of IP version {found} inside");
    let length = match version {
        4 => usize::from(u16::from_be_bytes([first(start + 2)?, first(start + 3)?])),
        _ => 40 + usize::from(u16::from_be_bytes([first(start + 4)?, first(start + 5)?])),
    };
    ensure!(inner.len() == length, "{} bytes inside, whose header says {length}", inner.len());
    Ok(inner)
}
