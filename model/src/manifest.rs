//! Manifests: what operators write. YAML of several documents, or JSON (an array is several documents).
//!
//! Everything wrong with a manifest is found in one go and named by document, path, value, and what is
//! allowed. Unknown fields are refused. `status` is what the cluster observes: ignored on input.

mod cluster;
mod export;
mod group;
mod health;
mod reader;
mod service;
mod snat;

use serde_json::Value;

pub use export::{
    cluster as export_cluster, group as export_group, service as export_service,
    snat_rule as export_snat_rule,
};

use crate::check::Problem;
use crate::command::Change;
use crate::intent::{ClusterSettings, GroupSpec, ServiceSpec, SnatRuleSpec};
use crate::limits::{MAX_CHANGES, MAX_MANIFEST};
use crate::state::State;
use reader::{Issues, Node};

/// The only `apiVersion`.
pub const API_VERSION: &str = "lockstep/v1";

/// One document of a manifest.
#[expect(clippy::large_enum_variant, reason = "most documents of a manifest are services")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// `kind: Cluster`
    Cluster(ClusterSettings),
    /// `kind: Group`
    Group(GroupSpec),
    /// `kind: Service`
    Service(ServiceSpec),
    /// `kind: SnatRule`
    SnatRule(SnatRuleSpec),
}

/// Something in a manifest that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document {document}: {problem}")]
pub struct Violation {
    /// The document's number, from 1.
    pub document: usize,
    /// What is wrong in it.
    pub problem: Problem,
}

/// Reads a manifest. On error: everything that is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Document>, Vec<Violation>> {
    let documents = split(text).map_err(|problem| vec![Violation { document: 1, problem }])?;
    let mut read = Vec::with_capacity(documents.len());
    let mut violations = Vec::new();
    for (i, value) in documents.iter().enumerate() {
        let issues = Issues::default();
        let document = document(&Node::root(value, &issues));
        let problems = issues.into_problems();
        match document {
            Some(document) if problems.is_empty() => read.push(document),
            _ => {
                violations.extend(problems.into_iter().map(|problem| Violation { document: i + 1, problem }))
            }
        }
    }
    if violations.is_empty() { Ok(read) } else { Err(violations) }
}

fn split(text: &str) -> Result<Vec<Value>, Problem> {
    if text.len() > MAX_MANIFEST {
        let allowed = format!("at most {MAX_MANIFEST} bytes");
        return Err(Problem::new("manifest", format!("{} bytes", text.len()), allowed));
    }
    // JSON first: its errors are clearer, and a large JSON file needs no YAML alias budget.
    let parsed = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => serde_json::from_str::<Value>(text).map(|v| vec![v]).map_err(|e| e.to_string()),
        _ => {
            // `no` and `on` are names here, not booleans.
            let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
            serde_saphyr::from_multiple_with_options(text, options).map_err(|e| e.to_string())
        }
    };
    let values = parsed.map_err(|e| Problem::new("manifest", e, "YAML documents or JSON"))?;
    let flat = |value| match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => vec![other],
    };
    let documents: Vec<Value> = values.into_iter().flat_map(flat).collect();
    if documents.is_empty() || documents.len() > MAX_CHANGES {
        let value = format!("{} documents", documents.len());
        return Err(Problem::new("manifest", value, format!("1-{MAX_CHANGES} documents")));
    }
    Ok(documents)
}

fn document(root: &Node<'_>) -> Option<Document> {
    const KINDS: &str = "Cluster, Group, Service or SnatRule";
    let fields = root.object()?;
    let version = fields.required("apiVersion", API_VERSION)?;
    if version.text()? != API_VERSION {
        version.refuse(API_VERSION);
    }
    let kind = fields.required("kind", KINDS)?;
    let document = match kind.text()? {
        "Cluster" => {
            fields.only(&["apiVersion", "kind", "spec", "status"]);
            cluster::read(&fields).map(Document::Cluster)
        }
        "Group" => {
            fields.only(&["apiVersion", "kind", "name", "spec", "status"]);
            group::read(&fields).map(Document::Group)
        }
        "Service" => {
            fields.only(&["apiVersion", "kind", "name", "spec", "status"]);
            service::read(&fields).map(Document::Service)
        }
        "SnatRule" => {
            fields.only(&["apiVersion", "kind", "name", "spec", "status"]);
            snat::read(&fields).map(Document::SnatRule)
        }
        _ => {
            kind.refuse(KINDS);
            None
        }
    };
    let problems = match &document {
        Some(Document::Group(spec)) => crate::check::group(spec),
        Some(Document::Service(spec)) => crate::check::service(spec),
        Some(Document::SnatRule(spec)) => crate::check::snat_rule(spec),
        Some(Document::Cluster(_)) | None => Vec::new(),
    };
    problems.into_iter().for_each(|problem| root.report(problem));
    document
}

/// The changes that a manifest asks for, in its order.
pub fn changes(documents: Vec<Document>) -> Vec<Change> {
    documents
        .into_iter()
        .map(|document| match document {
            Document::Cluster(settings) => Change::SetCluster(settings),
            Document::Group(spec) => Change::UpsertGroup(spec),
            Document::Service(spec) => Change::UpsertService(spec),
            Document::SnatRule(spec) => Change::UpsertSnatRule(spec),
        })
        .collect()
}

/// Deletions of the groups, services and rules that `changes` does not name (`apply --prune`).
pub fn prune(state: &State, changes: &[Change]) -> Vec<Change> {
    let keeps_group =
        |name: &&String| changes.iter().any(|c| matches!(c, Change::UpsertGroup(g) if g.name == **name));
    let keeps_service =
        |name: &&String| changes.iter().any(|c| matches!(c, Change::UpsertService(s) if s.name == **name));
    let keeps_rule =
        |name: &&String| changes.iter().any(|c| matches!(c, Change::UpsertSnatRule(r) if r.name == **name));
    let services = state.services.values().map(|s| &s.spec.name).filter(|name| !keeps_service(name));
    let rules = state.snat_rules.values().map(|r| &r.spec.name).filter(|name| !keeps_rule(name));
    let groups = state.groups.values().map(|g| &g.spec.name).filter(|name| !keeps_group(name));
    let deleted = services.cloned().map(Change::DeleteService);
    let deleted = deleted.chain(rules.cloned().map(Change::DeleteSnatRule));
    deleted.chain(groups.cloned().map(Change::DeleteGroup)).collect()
}

#[cfg(test)]
mod tests;
