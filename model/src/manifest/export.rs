//! From the model to manifest documents: applying what is exported changes nothing. Whoever exports may put
//! observations under `status`.

use serde_json::{Value, json};

use super::API_VERSION;
use super::cluster::{LEASE, ON_QUORUM_LOSS};
use super::service::{ALGORITHM, PROTOCOL, STATE, SYNC};
use crate::intent::{ClusterSettings, EndpointSpec, GroupSpec, ServiceSpec};

/// `kind: Cluster`.
pub fn cluster(settings: &ClusterSettings) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Cluster",
        "spec": {
            "lease": word(LEASE, settings.lease),
            "on_quorum_loss": word(ON_QUORUM_LOSS, settings.on_quorum_loss),
        },
    })
}

/// `kind: Group`.
pub fn group(spec: &GroupSpec) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Group",
        "name": spec.name,
        "spec": {
            "addresses": spec.addresses,
            "interfaces": spec.interfaces,
            "nodes": spec.nodes,
            "standbys": spec.standbys,
            "failback": spec.failback,
        },
    })
}

/// `kind: Service`.
pub fn service(spec: &ServiceSpec) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Service",
        "name": spec.name,
        "spec": {
            "group": spec.group,
            "vip": spec.vip,
            "port": spec.port,
            "protocol": spec.protocol.iter().map(|p| word(PROTOCOL, *p)).collect::<Vec<_>>(),
            "algorithm": word(ALGORITHM, spec.algorithm),
            "mode": "nat",
            "sync": word(SYNC, spec.sync),
            "on_miss": "drop",
            "endpoints": spec.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        },
    })
}

fn endpoint(spec: &EndpointSpec) -> Value {
    json!({
        "address": spec.address.ip(),
        "port": spec.address.port(),
        "weight": spec.weight,
        "state": word(STATE, spec.state),
    })
}

fn word<T: PartialEq>(words: &'static [(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, v)| *v == value);
    found.map(|(word, _)| *word).expect("the list of words has every value; a test goes through them")
}
