//! Objects as rows of a table.

use serde_json::Value;

use crate::args::Kind;

/// What stands in a row behind the name.
type Cells = fn(&Value) -> Vec<String>;

/// The columns' names, and a row for each object, which begins with its name.
pub(super) fn rows(kind: Kind, objects: &[Value]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let (header, cells): (&[&str], Cells) = match kind {
        Kind::Group => (&["NAME", "ADDRESSES", "NODES", "OWNER", "EPOCH"], group),
        Kind::Service => {
            (&["NAME", "GROUP", "VIP", "PORT", "PROTOCOL", "MODE", "ALGORITHM", "SYNC", "ENDPOINTS"], service)
        }
        Kind::SnatRule => (
            &["NAME", "GROUP", "PRIORITY", "SOURCE", "DESTINATION", "PROTOCOL", "PORTS", "ACTION", "TO"],
            snat_rule,
        ),
        Kind::Node => (&["NAME", "ID", "ROLE", "CLUSTER", "LEASE"], node),
        Kind::Cluster => (&["NAME", "LEASE", "ON_QUORUM_LOSS", "REVISION"], cluster),
        Kind::Endpoint => {
            (&["NAME", "WEIGHT", "STATE", "BACKUP", "HEALTH", "SINCE", "BY", "HERE", "ERROR"], endpoint)
        }
    };
    let row = |object: &Value| std::iter::once(text(&object["name"])).chain(cells(object)).collect();
    (header.to_vec(), objects.iter().map(row).collect())
}

fn group(object: &Value) -> Vec<String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    vec![list(&spec["addresses"]), list(&spec["nodes"]), text(&status["owner"]), text(&status["epoch"])]
}

fn service(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let endpoints = spec["endpoints"].as_array().map_or(0, Vec::len);
    vec![
        text(&spec["group"]),
        list(&spec["vip"]),
        text(&spec["port"]),
        list(&spec["protocol"]),
        text(&spec["mode"]),
        text(&spec["algorithm"]),
        text(&spec["sync"]),
        endpoints.to_string(),
    ]
}

fn snat_rule(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let matching = ["source", "destination", "protocol", "ports"].map(|f| text(&spec["match"][f]));
    let mut row = vec![text(&spec["group"]), text(&spec["priority"])];
    row.extend(matching);
    row.extend([text(&spec["action"]["type"]), list(&spec["action"]["to"])]);
    row
}

fn node(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    vec![
        text(&object["status"]["id"]),
        text(&spec["role"]),
        text(&spec["cluster_address"]),
        text(&spec["lease_address"]),
    ]
}

fn cluster(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    vec![text(&spec["lease"]), text(&spec["on_quorum_loss"]), text(&object["status"]["revision"])]
}

fn endpoint(object: &Value) -> Vec<String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    // What the cluster agreed on, else what the node asked sees.
    let error = if status["error"].is_null() { &status["here_error"] } else { &status["error"] };
    vec![
        text(&spec["weight"]),
        text(&spec["state"]),
        text(&spec["backup"]),
        text(&status["health"]),
        text(&status["since"]),
        list(&status["nodes"]),
        text(&status["here"]),
        text(error),
    ]
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    match value.as_array() {
        Some(values) if !values.is_empty() => values.iter().map(text).collect::<Vec<_>>().join(","),
        _ => "-".to_owned(),
    }
}
