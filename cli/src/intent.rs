//! `apply`, `diff`, `get`, `describe`, `delete`.

mod diff;
mod read;
mod tables;
mod watch;

use std::io::Read;

use lockstep_model::manifest::Document;
use lockstep_proto::admin::v1 as admin;

pub(crate) use self::read::manifest;
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
    let mut lines = client.admin.apply(request).await?.into_inner().lines;
    if dry_run {
        lines.iter_mut().for_each(|line| line.push_str(" (dry run)"));
    }
    print::lines(&lines);
    Ok(())
}

pub(crate) async fn diff(client: &mut Client, file: &str) -> Result<(), Failure> {
    diff::run(client, read(file)?).await
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
        print::lines(&client.admin.delete(request).await?.into_inner().lines);
    }
    Ok(())
}

pub(crate) async fn get(
    client: &mut Client,
    kind: Kind,
    name: Option<String>,
    output: Output,
    watch: bool,
) -> Result<(), Failure> {
    if watch {
        return watch::run(client, kind, name, output).await;
    }
    let single = (name.is_some() && kind != Kind::Endpoint) || kind == Kind::Cluster;
    let objects = read::objects(client, kind, name).await?;
    if matches!(output, Output::Json | Output::Yaml) {
        return print::objects(&objects, single, output);
    }
    let (header, rows) = tables::rows(kind, &objects);
    print::table(&header, &rows);
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

fn parsed(manifest: &str) -> Result<Vec<Document>, Failure> {
    lockstep_model::manifest::parse(manifest).map_err(|violations| {
        Failure::Refused(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn named_in(manifest: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut names = Vec::new();
    for document in parsed(manifest)? {
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
