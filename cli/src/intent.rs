//! `apply`, `get`, `describe`, `delete`.

mod read;

use std::io::Read;

use lockstep_proto::admin::v1 as admin;
use serde_json::Value;

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
    let single = (name.is_some() && kind != Kind::Endpoint) || kind == Kind::Cluster;
    let objects = read::objects(client, kind, name).await?;
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
                &["NAME", "GROUP", "VIP", "PORT", "PROTOCOL", "MODE", "ALGORITHM", "SYNC", "ENDPOINTS"],
                &objects,
                |o| {
                    let spec = &o["spec"];
                    let endpoints = spec["endpoints"].as_array().map_or(0, Vec::len);
                    let mut row: Vec<String> =
                        vec![text(&spec["group"]), list(&spec["vip"]), text(&spec["port"])];
                    row.extend([
                        list(&spec["protocol"]),
                        text(&spec["mode"]),
                        text(&spec["algorithm"]),
                        text(&spec["sync"]),
                        endpoints.to_string(),
                    ]);
                    row
                },
            );
        }
        Kind::SnatRule => {
            let header =
                ["NAME", "GROUP", "PRIORITY", "SOURCE", "DESTINATION", "PROTOCOL", "PORTS", "ACTION", "TO"];
            table(&header, &objects, |o| {
                let spec = &o["spec"];
                let matching =
                    ["source", "destination", "protocol", "ports"].map(|f| text(&spec["match"][f]));
                let mut row = vec![text(&spec["group"]), text(&spec["priority"])];
                row.extend(matching);
                row.extend([text(&spec["action"]["type"]), list(&spec["action"]["to"])]);
                row
            });
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
        Kind::Endpoint => {
            let header = ["NAME", "WEIGHT", "STATE", "BACKUP", "HEALTH", "SINCE", "BY", "HERE", "ERROR"];
            table(&header, &objects, |o| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let mut row = ["weight", "state", "backup"].map(|field| text(&spec[field])).to_vec();
                row.extend([text(&status["health"]), text(&status["since"]), list(&status["nodes"])]);
                // What the cluster agreed on, else what this node sees.
                let error = ["error", "here_error"].map(|field| &status[field]);
                row.extend([
                    text(&status["here"]),
                    text(error.into_iter().find(|e| !e.is_null()).unwrap_or(&Value::Null)),
                ]);
                row
            });
        }
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

/// One object with what the cluster observes of it; as YAML, unless JSON is wanted.
pub(crate) async fn describe(
    client: &mut Client,
    kind: Kind,
    name: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    if name.is_none() && kind != Kind::Cluster {
        return Err(Failure::Usage(format!(
            "describe takes KIND NAME; `get {}` lists them",
            kind.singular()
        )));
    }
    let objects = read::objects(client, kind, name).await?;
    let output = if output == Output::Json { Output::Json } else { Output::Yaml };
    print::objects(&objects, kind != Kind::Endpoint, output)
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
            Document::SnatRule(spec) => names.push(("snatrule".to_owned(), spec.name)),
            Document::Cluster(_) => {
                return Err(Failure::Usage(
                    "kind Cluster cannot be deleted; allowed: Group, Service, SnatRule".to_owned(),
                ));
            }
        }
    }
    // Groups last: a group is not deleted while a service or a rule names it.
    let (groups, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|(kind, _)| kind == "group");
    Ok(others.into_iter().chain(groups).collect())
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
