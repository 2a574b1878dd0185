//! From the model to manifest documents: applying what is exported changes nothing. Whoever exports may put
//! observations under `status`.

use serde_json::{Value, json};

use super::API_VERSION;
use super::cluster::{LEASE, ON_QUORUM_LOSS};
use super::health;
use super::service::{ALGORITHM, MODE, ON_MISS, PROTOCOL, STATE};
use crate::duration;
use crate::intent::{
    ClusterSettings, EndpointSpec, GroupSpec, PortRange, ServiceSpec, SnatAction, SnatRuleSpec, Timeouts,
};

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

/// `kind: Service`. What has no default of its own (affinity, a pool, a limit, a health check, slow start) is
/// left out where
/// there is none.
pub fn service(spec: &ServiceSpec) -> Value {
    let mut fields = json!({
        "group": spec.group,
        "vip": spec.vip,
        "protocol": spec.protocol.iter().map(|p| word(PROTOCOL, *p)).collect::<Vec<_>>(),
        "algorithm": word(ALGORITHM, spec.algorithm),
        "mode": word(MODE, spec.mode),
        "timeouts": timeouts(&spec.timeouts),
        "sync": spec.sync.to_string(),
        "on_miss": word(ON_MISS, spec.on_miss),
        "endpoints": spec.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    });
    if spec.port != PortRange::NONE {
        fields["port"] = ports(spec.port);
    }
    if let Some(affinity) = &spec.affinity {
        fields["affinity"] = json!({
            "by": "source",
            "prefix4": affinity.prefix4,
            "prefix6": affinity.prefix6,
            "timeout": duration::show(affinity.timeout),
        });
    }
    if !spec.snat_pool.is_empty() {
        fields["snat_pool"] = json!(spec.snat_pool);
    }
    if !spec.sources.is_empty() {
        fields["sources"] = spec.sources.iter().map(ToString::to_string).collect();
    }
    let limits = [("connections", spec.limits.connections), ("new_per_second", spec.limits.new_per_second)];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            fields["limits"][name] = json!(limit);
        }
    }
    if let Some(check) = &spec.health {
        fields["health"] = health::export(check);
    }
    if let Some(time) = spec.slow_start {
        fields["slow_start"] = json!(duration::show(time));
    }
    json!({"apiVersion": API_VERSION, "kind": "Service", "name": spec.name, "spec": fields})
}

fn timeouts(all: &Timeouts) -> Value {
    json!({
        "established": duration::show(all.established),
        "syn": duration::show(all.syn),
        "fin": duration::show(all.fin),
        "udp": duration::show(all.udp),
        "udp_stream": duration::show(all.udp_stream),
    })
}

/// A number where it is one.
fn ports(ports: PortRange) -> Value {
    if ports.is_single() { json!(ports.first) } else { json!(ports.to_string()) }
}

fn endpoint(spec: &EndpointSpec) -> Value {
    let mut fields = json!({
        "address": spec.address.ip(),
        "weight": spec.weight,
        "state": word(STATE, spec.state),
        "backup": spec.backup,
    });
    if spec.address.port() != 0 {
        fields["port"] = json!(spec.address.port());
    }
    fields
}

/// `kind: SnatRule`.
pub fn snat_rule(spec: &SnatRuleSpec) -> Value {
    let kind = match spec.action {
        SnatAction::Snat(_) => "snat",
        SnatAction::Static(_) => "static",
        SnatAction::None => "none",
    };
    let mut action = json!({"type": kind});
    if spec.action != SnatAction::None {
        action["to"] = json!(spec.action.addresses());
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": "SnatRule",
        "name": spec.name,
        "spec": {
            "group": spec.group,
            "priority": spec.priority,
            "match": {
                "source": spec.source.to_string(),
                "destination": spec.destination.to_string(),
                "protocol": spec.protocol.map_or("any", |protocol| word(PROTOCOL, protocol)),
                "ports": ports(spec.ports),
            },
            "action": action,
        },
    })
}

pub(super) fn word<T: PartialEq>(words: &'static [(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, v)| *v == value);
    found.map(|(word, _)| *word).expect("the list of words has every value; a test goes through them")
}
