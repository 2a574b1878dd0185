//! `apply`, `get`, `delete`.

use std::io::Read;

use lockstep_proto::admin::v1 as admin;
use serde_json::{Value, json};

use crate::args::{Kind, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

/// A manifest larger than this is refused before it is sent.
const MAX_MANIFEST: u64 = 3 << 20;

pub(crate) async fn apply(
    client: &mut Client,
    file: &str,
    dry_run: bool,
    prune: bool,
) -> Result<(), Failure> {
    let manifest = read(file)?;
    let request = admin::ApplyRequest { manifest, dry_run, prune, expected_revision: None };
    let answer = client.admin.apply(request).await?.into_inner();
    lines(&answer.lines, dry_run);
    Ok(())
}

pub(crate) async fn delete(
    client: &mut Client,
    kind: Option<Kind>,
    name: Option<String>,
    file: Option<String>,
) -> Result<(), Failure> {
    let targets = match (kind, name, file) {
        (Some(kind), Some(name), None) => vec![(kind.singular().to_owned(), name)],
        (None, None, Some(file)) => named_in(&read(&file)?)?,
        _ => return Err(Failure::Usage("delete takes KIND NAME, or -f FILE".to_owned())),
    };
    for (kind, name) in targets {
        let request = admin::DeleteRequest { kind, name, expected_revision: None };
        lines(&client.admin.delete(request).await?.into_inner().lines, false);
    }
    Ok(())
}

pub(crate) async fn get(
    client: &mut Client,
    kind: Kind,
    name: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let single = name.is_some() || kind == Kind::Cluster;
    let objects = match kind {
        Kind::Group => groups(client, name).await?,
        Kind::Service => services(client, name).await?,
        Kind::Node => nodes(client, name).await?,
        Kind::Cluster => cluster(client).await?,
    };
    if matches!(output, Output::Json | Output::Yaml) {
        return print::objects(&objects, single, output);
    }
    match kind {
        Kind::Group => table(&["NAME", "ADDRESSES", "NODES", "OWNER", "EPOCH"], &objects, |o| {
            vec![
                list(&o["spec"]["addresses"]),
                list(&o["spec"]["nodes"]),
                text(&o["status"]["owner"]),
                text(&o["status"]["epoch"]),
            ]
        }),
        Kind::Service => {
            table(
                &["NAME", "GROUP", "VIP", "PORT", "PROTOCOL", "ALGORITHM", "SYNC", "ENDPOINTS"],
                &objects,
                |o| {
                    let spec = &o["spec"];
                    let endpoints = spec["endpoints"].as_array().map_or(0, Vec::len);
                    let mut row: Vec<String> =
                        vec![text(&spec["group"]), list(&spec["vip"]), text(&spec["port"])];
                    row.extend([
                        list(&spec["protocol"]),
                        text(&spec["algorithm"]),
                        text(&spec["sync"]),
                        endpoints.to_string(),
                    ]);
                    row
                },
            );
        }
        Kind::Node => table(&["NAME", "ID", "ROLE", "CLUSTER", "LEASE"], &objects, |o| {
            let spec = &o["spec"];
            vec![
                text(&o["status"]["id"]),
                text(&spec["role"]),
                text(&spec["cluster_address"]),
                text(&spec["lease_address"]),
            ]
        }),
        Kind::Cluster => table(&["NAME", "LEASE", "ON_QUORUM_LOSS", "REVISION"], &objects, |o| {
            vec![
                text(&o["spec"]["lease"]),
                text(&o["spec"]["on_quorum_loss"]),
                text(&o["status"]["revision"]),
            ]
        }),
    }
    Ok(())
}

async fn groups(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => {
            let one = client.admin.get_group(admin::GetGroupRequest { name, stale }).await?.into_inner();
            answers.push((one.manifest, one.group));
        }
        None => {
            let mut all = client.admin.list_groups(admin::ListGroupsRequest { stale }).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push((one.manifest, one.group));
            }
        }
    }
    let nodes = nodes(client, None).await?;
    let name_of = |id: u64| {
        let node = nodes.iter().find(|node| node["status"]["id"] == id);
        node.map_or_else(|| json!(id.to_string()), |node| node["name"].clone())
    };
    answers
        .into_iter()
        .map(|(manifest, group)| {
            let group = group.unwrap_or_default();
            let mut status = json!({"id": group.id, "revision": group.revision});
            if let Some(assignment) = group.assignment {
                status["owner"] = name_of(assignment.node);
                status["epoch"] = json!(assignment.epoch);
            }
            with_status(&manifest, status)
        })
        .collect()
}

async fn services(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => {
            let one = client.admin.get_service(admin::GetServiceRequest { name, stale }).await?.into_inner();
            answers.push((one.manifest, one.service));
        }
        None => {
            let mut all =
                client.admin.list_services(admin::ListServicesRequest { stale }).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push((one.manifest, one.service));
            }
        }
    }
    answers
        .into_iter()
        .map(|(manifest, service)| {
            let service = service.unwrap_or_default();
            with_status(&manifest, json!({"id": service.id, "revision": service.revision}))
        })
        .collect()
}

async fn nodes(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => answers
            .push(client.admin.get_node(admin::GetNodeRequest { name, stale }).await?.into_inner().node),
        None => {
            let mut all = client.admin.list_nodes(admin::ListNodesRequest { stale }).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push(one.node);
            }
        }
    }
    let socket = |address: Option<lockstep_proto::types::v1::SocketAddress>| {
        let address = address.unwrap_or_default();
        format!("{}:{}", print::address(&address.address), address.port)
    };
    Ok(answers
        .into_iter()
        .map(|node| {
            let node = node.unwrap_or_default();
            let spec = node.spec.unwrap_or_default();
            let role = match spec.role() {
                lockstep_proto::types::v1::NodeRole::Witness => "witness",
                _ => "dataplane",
            };
            json!({
                "apiVersion": "lockstep/v1", "kind": "Node", "name": spec.name,
                "spec": {"role": role, "cluster_address": socket(spec.cluster_address), "lease_address": socket(spec.lease_address)},
                "status": {"id": node.id},
            })
        })
        .collect())
}

async fn cluster(client: &mut Client) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let answer = client.admin.get_cluster(admin::GetClusterRequest { stale }).await?.into_inner();
    Ok(vec![with_status(&answer.manifest, json!({"revision": answer.revision}))?])
}

fn with_status(manifest: &str, status: Value) -> Result<Value, Failure> {
    let mut object: Value = serde_json::from_str(manifest)
        .map_err(|e| Failure::Refused(format!("the server's answer is not JSON: {e}")))?;
    object["status"] = status;
    Ok(object)
}

fn table(header: &[&str], objects: &[Value], row: impl Fn(&Value) -> Vec<String>) {
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| {
            let mut cells = vec![text(&object["name"])];
            cells.extend(row(object));
            cells
        })
        .collect();
    print::table(header, &rows);
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

fn lines(lines: &[String], dry_run: bool) {
    let note = if dry_run { " (dry run)" } else { "" };
    for line in lines {
        print::text(&format!("{line}{note}\n"));
    }
}

fn named_in(manifest: &str) -> Result<Vec<(String, String)>, Failure> {
    use lockstep_model::manifest::Document;
    let documents = lockstep_model::manifest::parse(manifest).map_err(|violations| {
        Failure::Refused(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let mut names = Vec::new();
    for document in documents {
        match document {
            Document::Group(spec) => names.push(("group".to_owned(), spec.name)),
            Document::Service(spec) => names.push(("service".to_owned(), spec.name)),
            Document::Cluster(_) => {
                return Err(Failure::Usage(
                    "kind Cluster cannot be deleted; allowed: Group, Service".to_owned(),
                ));
            }
        }
    }
    // Services first: a group is not deleted while a service names it.
    let (services, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|(kind, _)| kind == "service");
    Ok(services.into_iter().chain(others).collect())
}

fn read(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().take(MAX_MANIFEST + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(MAX_MANIFEST + 1).read_to_string(&mut text))
    };
    read.map_err(|e| Failure::Usage(format!("-f {file}: cannot be read: {e}")))?;
    if text.len() as u64 > MAX_MANIFEST {
        return Err(Failure::Usage(format!("-f {file}: allowed: at most {MAX_MANIFEST} bytes")));
    }
    Ok(text)
}
