//! A program of somebody else, which passes every packet on: the smallest there is.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::Context;

use super::{ATTR, call, describe};
use crate::namespace::Handle;

const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;
/// `BPF_F_BEFORE` of `linux/bpf.h`; alone it means before all others.
const BEFORE: u32 = 1 << 3;
/// `XDP_FLAGS_SKB_MODE` of `linux/if_link.h`.
const IN_THE_STACK: u32 = 1 << 1;

/// Where it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// XDP, in the network stack.
    Xdp,
    /// tcx ingress, before all others.
    First,
    /// tcx ingress, behind all others.
    Last,
}

impl Place {
    /// Program type, attach type, flags, and what the program returns: `XDP_PASS` or `TCX_NEXT`.
    const fn numbers(self) -> (u32, u32, u32, i32) {
        match self {
            Place::Xdp => (6, 37, IN_THE_STACK, 2),
            Place::First => (3, 46, BEFORE, -1),
            Place::Last => (3, 46, 0, -1),
        }
    }
}

/// Attached for as long as it lives.
#[derive(Debug)]
pub struct Stranger {
    /// Its number in the kernel.
    pub id: u32,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Stranger {
    /// Loads it and attaches it to an interface of `namespace`.
    pub fn attach(namespace: &Handle, interface: &str, place: Place) -> anyhow::Result<Self> {
        namespace
            .run(|| attach(interface, place))
            .with_context(|| format!("a stranger's program at {place:?} of {interface}"))
    }
}

fn attach(interface: &str, place: Place) -> anyhow::Result<Stranger> {
    let (kind, hook, flags, verdict) = place.numbers();
    // r0 = verdict; exit
    let mut code = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    code[4..8].copy_from_slice(&verdict.to_le_bytes());
    let license = c"GPL";
    let mut load = [0u8; ATTR];
    load[..4].copy_from_slice(&kind.to_ne_bytes());
    load[4..8].copy_from_slice(&(code.len() as u32 / 8).to_ne_bytes());
    load[8..16].copy_from_slice(&(code.as_ptr() as u64).to_ne_bytes());
    load[16..24].copy_from_slice(&(license.as_ptr() as u64).to_ne_bytes());
    let program = open(PROG_LOAD, &mut load).context("cannot load it")?;

    // `struct bpf_prog_info` begins with type and id, four bytes each.
    let mut info = [0u8; 8];
    describe(&program, &mut info).context("cannot ask what it is")?;
    let id = u32::from_ne_bytes(info[4..].try_into().expect("four bytes"));

    let index = nix::net::if_::if_nametoindex(interface)?;
    let mut link = [0u8; ATTR];
    for (at, word) in [program.as_raw_fd() as u32, index, hook, flags].into_iter().enumerate() {
        link[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let link = open(LINK_CREATE, &mut link).context("cannot attach it")?;
    Ok(Stranger { id, _program: program, _link: link })
}

fn open(command: u32, attr: &mut [u8; ATTR]) -> anyhow::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
