//! The kernel, and what it lets this process do.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{Findings, sysctl};

/// tcx, which the programs are attached with.
const OLDEST: (u32, u32) = (6, 6);
/// Descriptors: maps, programs, a stream or two a peer, operators.
const MIN_DESCRIPTORS: u64 = 1024;

/// Capabilities by number (`linux/capability.h`), and what is impossible without.
const NEEDED: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "attaching programs"),
    (13, "CAP_NET_RAW", "announcing addresses"),
    (39, "CAP_BPF", "loading programs"),
    (38, "CAP_PERFMON", "loading programs that read the kernel's memory"),
];
/// And what is worse without.
const BETTER: [(u32, &str, &str); 2] = [
    (23, "CAP_SYS_NICE", "leases may lapse under load"),
    (14, "CAP_IPC_LOCK", "leases may lapse while pages are read back"),
];
const CAP_SYS_ADMIN: u32 = 21;

pub(super) fn check(pin_dir: &Path, findings: &mut Findings) {
    let release = sysctl("kernel/osrelease").unwrap_or_default();
    match version(&release) {
        Some(version) if version >= OLDEST => findings.ok("kernel", release),
        Some(_) => findings.fail("kernel", format!("{release} has no tcx; needed: 6.6 or later")),
        None => findings.warn("kernel", format!("{release:?} is no version; needed: 6.6 or later")),
    }
    match Path::new("/sys/kernel/btf/vmlinux").exists() {
        true => findings.ok("btf", "the kernel tells its types"),
        false => findings.warn(
            "btf",
            "/sys/kernel/btf/vmlinux is missing (CONFIG_DEBUG_INFO_BTF): tools show less of the programs",
        ),
    }
    match sysctl("net/core/bpf_jit_enable").as_deref() {
        Some("0") => findings
            .fail("jit", "off: each packet would be interpreted; run `sysctl net.core.bpf_jit_enable=1`"),
        Some(_) => findings.ok("jit", "on"),
        None => findings.warn("jit", "not shown in a network namespace of its own (net.core.bpf_jit_enable)"),
    }
    match lockstep_loader::wait_grace_period() {
        Ok(()) => findings.ok("grace periods", "can be waited for"),
        Err(error) => findings.fail("grace periods", format!("membarrier: {error}: a kernel with nohz_full= refuses it, and nothing could be replaced under packets; boot without")),
    }
    bpffs(pin_dir, findings);
    capabilities(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), findings);
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        match soft >= MIN_DESCRIPTORS {
            true => findings.ok("descriptors", format!("up to {soft}")),
            false => findings.warn(
                "descriptors",
                format!("up to {soft}; allow {MIN_DESCRIPTORS} (LimitNOFILE= of the unit)"),
            ),
        }
    }
}

fn bpffs(pin_dir: &Path, findings: &mut Findings) {
    let there = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match statfs(there) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {
            findings.ok("dataplane.pin_dir", format!("{} is on a BPF file system", pin_dir.display()));
        }
        Ok(_) => findings.fail(
            "dataplane.pin_dir",
            format!("{} is on no BPF file system; run `mount -t bpf bpf /sys/fs/bpf`", pin_dir.display()),
        ),
        Err(errno) => findings.fail("dataplane.pin_dir", format!("{}: {errno}", there.display())),
    }
}

fn capabilities(status: &str, findings: &mut Findings) {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) else {
        return findings.warn("capabilities", "/proc/self/status does not tell them");
    };
    let has = |bit: u32| effective & 1 << bit != 0;
    // It implies what was made of it.
    let granted = |bit: u32| has(bit) || (bit >= 38 && has(CAP_SYS_ADMIN));
    let lacking = |list: &[(u32, &str, &str)]| -> Vec<String> {
        let lacking = list.iter().filter(|(bit, ..)| !granted(*bit));
        lacking.map(|(_, name, what)| format!("{name} ({what})")).collect()
    };
    let (needed, better) = (lacking(&NEEDED), lacking(&BETTER));
    if !needed.is_empty() {
        findings
            .fail("capabilities", format!("missing: {}; run as root, as the daemon does", needed.join(", ")));
    } else if !better.is_empty() {
        findings.warn("capabilities", format!("missing: {}", better.join(", ")));
    } else {
        findings.ok("capabilities", "all that are needed");
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-vendor"), Some((6, 18)));
        assert_eq!(version("6.6"), Some((6, 6)));
        assert_eq!(version("custom"), None);
        assert!(version("6.10.1").unwrap() > OLDEST && version("5.15.0").unwrap() < OLDEST);
    }

    #[test]
    fn a_missing_capability_is_named() {
        let of = |mask: &str| {
            let mut findings = Findings::default();
            capabilities(&format!("Name:\tx\nCapEff:\t{mask}\n"), &mut findings);
            (findings.0[0].verdict, findings.0[0].text.clone())
        };
        assert_eq!(of("000001ffffffffff").0, Verdict::Ok);
        let (verdict, text) = of("0000000000000000");
        assert!(
            verdict == Verdict::Fail && text.contains("CAP_BPF") && text.contains("CAP_NET_RAW"),
            "{text}"
        );
        let (verdict, text) = of("00000000002f7fff");
        assert!(verdict == Verdict::Warn && text.contains("CAP_SYS_NICE"), "{verdict:?} {text}");
    }

    #[test]
    fn a_pin_directory_elsewhere_fails() {
        let mut findings = Findings::default();
        bpffs(Path::new("/tmp/pins"), &mut findings);
        assert_eq!(findings.failed(), 1);
        assert!(findings.0[0].text.contains("mount -t bpf"));
    }
}
