//! What the machine must be: root, processor, kernel, BTF, bpffs, Rust. Most of it cannot be installed, only
//! explained.

use std::ffi::CStr;

use anyhow::{Result, bail};

use super::{Found, Surroundings};
use crate::process::Tool;

/// tcx links, by which the programs are attached and swapped, came with 6.6.
const OLDEST_KERNEL: (u32, u32) = (6, 6);
const BPFFS: &CStr = c"/sys/fs/bpf";
const BTF: &str = "/sys/kernel/btf/vmlinux";

pub(super) fn root(_: &Surroundings) -> Result<Found> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        bail!(
            "this must run as root: it installs packages, and the tests load eBPF programs and make namespaces"
        );
    }
    Ok(Found::Ready("yes".into()))
}

pub(super) fn architecture(_: &Surroundings) -> Result<Found> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Found::Ready("x86_64".into())),
        other => bail!("only x86_64 is supported, and this is {other}"),
    }
}

pub(super) fn kernel(_: &Surroundings) -> Result<Found> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    let (major, minor) = OLDEST_KERNEL;
    match version(release) {
        Some(found) if found >= OLDEST_KERNEL => {
            Ok(Found::Ready(format!("{release} ({major}.{minor} or newer)")))
        }
        _ => bail!(
            "Linux {major}.{minor} or newer is needed, for tcx links, and this is {release}: boot a newer kernel (on Debian 12: linux-image-amd64 of bookworm-backports)"
        ),
    }
}

pub(super) fn btf(_: &Surroundings) -> Result<Found> {
    if !std::fs::exists(BTF)? {
        bail!("{BTF} is missing: boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y (Debian's are)");
    }
    Ok(Found::Ready(BTF.into()))
}

pub(super) fn bpffs(_: &Surroundings) -> Result<Found> {
    let path = BPFFS.to_string_lossy();
    // SAFETY: an all-zero statfs is a valid value.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and `status` outlives the call.
    if unsafe { libc::statfs(BPFFS.as_ptr(), &mut status) } != 0 {
        let error = std::io::Error::last_os_error();
        bail!(
            "{path} cannot be looked at ({error}): the kernel has no eBPF file system, or /sys is not mounted"
        );
    }
    if status.f_type == libc::BPF_FS_MAGIC {
        Ok(Found::Ready(format!("mounted at {path}")))
    } else {
        Ok(Found::Missing(format!("nothing is mounted at {path}")))
    }
}

pub(super) fn mount_bpffs(_: &Surroundings) -> Result<()> {
    // SAFETY: all strings end in NUL and outlive the call; there is no data argument.
    let result =
        unsafe { libc::mount(c"bpf".as_ptr(), BPFFS.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        bail!("{} cannot be mounted: {error}", BPFFS.to_string_lossy());
    }
    Ok(())
}

/// rustup takes the version from `rust-toolchain.toml`; a Rust that does not come from it may be another one.
pub(super) fn rust(surroundings: &Surroundings) -> Result<Found> {
    let wanted = &surroundings.rust_version;
    let found = Tool::new("rustc").args(["--version"]).dir(&surroundings.root).output()?;
    let found = found.trim();
    if found.split_whitespace().nth(1) != Some(wanted.as_str()) {
        bail!("Rust {wanted} is needed, and `rustc --version` says {found:?}: install it with rustup");
    }
    Ok(Found::Ready(found.into()))
}

pub(super) fn cannot(_: &Surroundings) -> Result<()> {
    bail!("this cannot be installed")
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("6.6-rc1"), Some((6, 6)));
        assert_eq!(version("unknown"), None);
        assert!(version("6.12.0") > version("6.6.9"));
    }
}
