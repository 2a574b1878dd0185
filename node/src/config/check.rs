//! What the types alone do not say. Each refusal names the key, the value and what is allowed.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lockstep_model::intent::NodeRole;

use super::{Config, SYNC_PORT_OFFSET};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {text}")]
pub(crate) struct Problem {
    file: String,
    text: String,
}

impl Problem {
    pub(super) fn file(path: &Path, text: String) -> Self {
        Self { file: path.display().to_string(), text }
    }

    pub(super) fn at(path: &Path, key: &str, text: &str) -> Self {
        Self::file(path, format!("{key}: {text}"))
    }
}

const MAX_INTERFACES: usize = 32;
const MAX_PEERS: usize = lockstep_model::limits::MAX_NODES - 1;
const FLOWS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;

pub(super) fn check(path: &Path, config: &Config) -> Result<(), Problem> {
    let refuse = |key: &str, value: &dyn Display, allowed: &str| {
        Err(Problem::at(path, key, &format!("{value}: {allowed}")))
    };

    for (key, name) in [("node.name", &config.node.name), ("cluster.name", &config.cluster.name)] {
        if !is_name(name) {
            return refuse(key, &format!("{name:?}"), "allowed: 1-63 characters of a-z, 0-9 and -");
        }
    }
    let listen = [
        ("cluster.listen", config.cluster.listen),
        ("lease.listen", config.lease.listen),
        ("sync.listen", config.sync_listen()),
    ];
    for (key, address) in listen {
        if address.ip().is_unspecified() || address.port() == 0 {
            return refuse(
                key,
                &address,
                "allowed: one address and a port other than 0, which peers can reach",
            );
        }
    }
    // What nobody wrote is not what is named.
    let highest = u16::MAX - SYNC_PORT_OFFSET;
    if config.sync.listen.is_none() && config.cluster.listen.port() > highest {
        let allowed = format!(
            "allowed: a port up to {highest}, or a sync.listen, whose default is that port plus {SYNC_PORT_OFFSET}"
        );
        return refuse("cluster.listen", &config.cluster.listen, &allowed);
    }
    let (sync, cluster) = (config.sync_listen(), config.cluster.listen);
    if sync.ip() != cluster.ip() || sync.port() == cluster.port() {
        let allowed = format!("allowed: {}, and a port other than {}", cluster.ip(), cluster.port());
        return refuse("sync.listen", &sync, &allowed);
    }
    let mut peers = BTreeSet::new();
    for (i, peer) in config.cluster.peers.iter().enumerate() {
        if *peer == config.cluster.listen || !peers.insert(peer) {
            return refuse(
                &format!("cluster.peers[{i}]"),
                peer,
                "allowed: each other node's cluster.listen, once",
            );
        }
    }
    if config.cluster.peers.len() > MAX_PEERS {
        return refuse(
            "cluster.peers",
            &config.cluster.peers.len(),
            &format!("allowed: at most {MAX_PEERS} peers"),
        );
    }
    check_dataplane(path, config)?;
    check_routing(path, config)?;
    check_tls(path, config)?;
    if tracing_subscriber::EnvFilter::try_new(&config.log.level).is_err() {
        return refuse(
            "log.level",
            &format!("{:?}", config.log.level),
            "allowed: error, warn, info, debug, trace, or a filter like info,lockstep_node=debug",
        );
    }
    Ok(())
}

fn check_dataplane(path: &Path, config: &Config) -> Result<(), Problem> {
    let refuse = |key: &str, text: &str| Err(Problem::at(path, key, text));
    match (config.node.role, &config.dataplane) {
        (NodeRole::Witness, None) => Ok(()),
        (NodeRole::Witness, Some(_)) => refuse("dataplane", "a witness has no dataplane: remove the section"),
        (NodeRole::Dataplane, None) => refuse("dataplane", "missing; node.role = \"dataplane\" requires it"),
        (NodeRole::Dataplane, Some(dataplane)) => {
            if dataplane.interfaces.is_empty() || dataplane.interfaces.len() > MAX_INTERFACES {
                let n = dataplane.interfaces.len();
                return refuse(
                    "dataplane.interfaces",
                    &format!("{n}: allowed: 1 to {MAX_INTERFACES} interfaces"),
                );
            }
            let mut names = BTreeSet::new();
            for (i, interface) in dataplane.interfaces.iter().enumerate() {
                let name = &interface.name;
                if name.is_empty() || name.len() > 15 || !names.insert(name) {
                    let key = format!("dataplane.interfaces[{i}].name");
                    return refuse(
                        &key,
                        &format!("{name:?}: allowed: an interface's name, at most 15 bytes, once"),
                    );
                }
            }
            if !FLOWS.contains(&dataplane.max_flows) {
                let (min, max) = (FLOWS.start(), FLOWS.end());
                let text = format!("{}: allowed: {min} to {max}", dataplane.max_flows);
                return refuse("dataplane.max_flows", &text);
            }
            Ok(())
        }
    }
}

fn check_routing(path: &Path, config: &Config) -> Result<(), Problem> {
    let routing = &config.routing;
    let given = [("routing.hook", &routing.hook), ("routing.socket", &routing.socket)];
    let given: Vec<_> =
        given.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))).collect();
    let [(field, value), others @ ..] = &given[..] else { return Ok(()) };
    let refuse = |why: &str| Err(Problem::at(path, field, &format!("{value:?}: {why}")));
    if config.node.role == NodeRole::Witness {
        return refuse("a witness never owns a group: remove the section");
    }
    if !others.is_empty() {
        return refuse("allowed: either routing.hook or routing.socket");
    }
    if routing.socket.is_some() {
        // As long as sun_path allows (unix(7)), with its end.
        let fits = value.is_absolute() && value.as_os_str().len() < 108;
        return if fits { Ok(()) } else { refuse("allowed: an absolute path of at most 107 bytes") };
    }
    if !value.is_absolute() {
        return refuse("allowed: the absolute path of an executable file");
    }
    match std::fs::metadata(value) {
        Err(error) => refuse(&format!("cannot be read ({error}); allowed: an executable file")),
        Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
            refuse("not executable; allowed: an executable file")
        }
        Ok(_) => Ok(()),
    }
}

fn check_tls(path: &Path, config: &Config) -> Result<(), Problem> {
    let files: [(&str, &Option<PathBuf>); 3] =
        [("tls.ca", &config.tls.ca), ("tls.cert", &config.tls.cert), ("tls.key", &config.tls.key)];
    let given = files.iter().filter(|(_, file)| file.is_some()).count();
    if given != 0 && given != files.len() {
        let missing = files.iter().find(|(_, file)| file.is_none()).expect("fewer than all are given").0;
        return Err(Problem::at(path, missing, "missing; ca, cert and key are given together"));
    }
    if given == 0 && !config.tls.allow_plaintext {
        let beyond = |address: SocketAddr| !address.ip().is_loopback();
        for (key, address) in [("cluster.listen", config.cluster.listen), ("api.listen", config.api.listen)] {
            if beyond(address) {
                let text = format!(
                    "{address}: a listener beyond loopback requires [tls] ca, cert and key (or, unsafe, allow_plaintext = true)"
                );
                return Err(Problem::at(path, key, &text));
            }
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
