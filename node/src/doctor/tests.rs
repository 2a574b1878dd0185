//! In a network namespace of its own, with what an operator may find there. Needs root.

mod foreign;

use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// A configuration whose interfaces are `veth` pairs in a namespace that the calling thread is moved into.
struct Bed {
    folder: PathBuf,
    pin_dir: PathBuf,
}

impl Bed {
    fn new(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
        ip("link set lo up");
        ip("link add eth0 type veth peer name client0");
        ip("address add 192.0.2.2/24 dev eth0");
        ip("link set eth0 up");
        ip("link set client0 up");
        let unique = format!("lockstep-doctor-{name}-{}", std::process::id());
        // Beside the program: temporary folders may be in memory, which a check refuses.
        let target = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let bed = Self { folder: target.join(&unique), pin_dir: Path::new("/sys/fs/bpf").join(unique) };
        std::fs::create_dir_all(&bed.folder).unwrap();
        bed
    }

    fn look(&self, hook: &str) -> Findings {
        use std::os::unix::fs::PermissionsExt;
        let secret = self.folder.join("secret");
        std::fs::write(&secret, [7; 32]).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = self.folder.join("node.toml");
        let text = format!(
            r#"
[node]
name = "a"
role = "dataplane"
data_dir = "{folder}/data"
[cluster]
name = "edge"
listen = "127.0.0.1:7400"
secret_file = "{folder}/secret"
[lease]
listen = "127.0.0.1:7401"
[dataplane]
interfaces = [{{ name = "eth0", hook = "{hook}" }}]
pin_dir = "{pin_dir}"
"#,
            folder = self.folder.display(),
            pin_dir = self.pin_dir.display(),
        );
        std::fs::write(&config, text).unwrap();
        look(&config)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_dir_all(&self.pin_dir);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[track_caller]
fn found(findings: &Findings, verdict: Verdict, subject: &str, words: &[&str]) {
    let fits = |finding: &&Finding| {
        finding.verdict == verdict
            && finding.subject == subject
            && words.iter().all(|word| finding.text.contains(word))
    };
    let lines: Vec<String> = findings.0.iter().map(ToString::to_string).collect();
    assert!(findings.0.iter().any(|finding| fits(&finding)), "no {words:?} in\n{}", lines.join("\n"));
}

#[track_caller]
fn passes(findings: &Findings) {
    let failed: Vec<_> = findings.0.iter().filter(|finding| finding.verdict == Verdict::Fail).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_configuration_that_is_refused_is_the_only_finding() {
    let findings = look(Path::new("/nonexistent/node.toml"));
    assert_eq!(findings.0.len(), 1);
    assert_eq!(findings.failed(), 1);
    let line = findings.0[0].to_string();
    assert!(line.starts_with("FAIL configuration: /nonexistent/node.toml: cannot be read"), "{line}");
}

#[test]
fn a_machine_that_is_ready_passes() {
    let bed = Bed::new("ready");
    let findings = bed.look("auto");
    passes(&findings);
    found(&findings, Verdict::Ok, "interface eth0", &["up, mtu 1500, 192.0.2.2"]);
    found(&findings, Verdict::Ok, "interface eth0", &["hook tc", "veth"]);
    found(&findings, Verdict::Ok, "pins", &["none in"]);
}

#[test]
fn a_missing_or_downed_interface_fails() {
    let bed = Bed::new("down");
    ip("link set eth0 down");
    found(&bed.look("auto"), Verdict::Fail, "interface eth0", &["is down", "ip link set eth0 up"]);
    ip("link delete eth0");
    found(&bed.look("auto"), Verdict::Fail, "interface eth0", &["does not exist; there are: "]);
}

#[test]
fn a_secret_that_others_can_read_fails() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::new("secret");
    passes(&bed.look("auto"));
    let secret = bed.folder.join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let findings = look(&bed.folder.join("node.toml"));
    found(&findings, Verdict::Fail, "cluster.secret_file", &["mode 0644", "chmod 600"]);
}

#[test]
fn pins_of_another_build_are_found() {
    let bed = Bed::new("pins");
    std::fs::create_dir_all(bed.pin_dir.join("v2/links")).unwrap();
    let findings = bed.look("auto");
    found(&findings, Verdict::Warn, "pins", &["v2 is another build's, attached nowhere", "rm -r"]);
    passes(&findings);
}

#[test]
fn pins_without_a_daemon_are_found() {
    let bed = Bed::new("stale");
    // The folders as a daemon makes them; the maps come with it.
    let schema = format!("v{}", lockstep_loader::SCHEMA);
    std::fs::create_dir_all(bed.pin_dir.join(schema).join("links")).unwrap();
    found(&bed.look("auto"), Verdict::Warn, "pins", &["is there without a daemon", "--purge"]);
}

#[test]
fn a_foreign_xdp_program_is_in_the_way_of_ours() {
    let bed = Bed::new("foreign");
    let foreign = foreign::at_xdp("eth0");
    let id = foreign.id.to_string();
    found(&bed.look("xdp-generic"), Verdict::Fail, "interface eth0", &["foreign program", &id, "in the way"]);
    found(&bed.look("tc"), Verdict::Warn, "interface eth0", &["foreign program", &id, "never reaches"]);
    drop(foreign);
    passes(&bed.look("xdp-generic"));
}
