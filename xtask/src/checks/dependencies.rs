//! The direction of dependencies between the crates: what each may use is a table, and some never have an
//! async runtime, network or eBPF library anywhere below them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::{PROGRAMS, metadata};

/// What each crate may depend on among ours, directly, in what is shipped (tests may use more, but nothing
/// may use the node).
const ALLOWED: &[(&str, &[&str])] = &[
    ("lockstep-seeded", &[]),
    ("lockstep-model", &[]),
    ("lockstep-abi", &[]),
    ("lockstep-packet", &["lockstep-abi"]),
    ("lockstep-programs", &["lockstep-packet", "lockstep-abi"]),
    // For build scripts only.
    ("lockstep-ebpf-build", &[]),
    ("lockstep-loader", &["lockstep-abi", "lockstep-model", "lockstep-ebpf-build"]),
    ("lockstep-proto", &["lockstep-model"]),
    ("lockstep-raft-store", &["lockstep-model", "lockstep-proto"]),
    ("lockstep-ownership", &["lockstep-model"]),
    ("lockstep-sync-core", &["lockstep-model"]),
    // The model's types are the interface of the core, which it carries.
    ("lockstep-sync-transport", &["lockstep-sync-core", "lockstep-proto", "lockstep-model"]),
    (
        "lockstep-node",
        &[
            "lockstep-model",
            "lockstep-abi",
            "lockstep-packet",
            "lockstep-loader",
            "lockstep-proto",
            "lockstep-raft-store",
            "lockstep-ownership",
            "lockstep-sync-core",
            "lockstep-sync-transport",
        ],
    ),
    ("lockstep-cli", &["lockstep-proto", "lockstep-model"]),
    (
        "lockstep-sim",
        &[
            "lockstep-model",
            "lockstep-raft-store",
            "lockstep-ownership",
            "lockstep-sync-core",
            "lockstep-packet",
            "lockstep-seeded",
        ],
    ),
    ("lockstep-cluster-tests", &["lockstep-proto", "lockstep-seeded"]),
    (
        "lockstep-bench",
        &[
            "lockstep-abi",
            "lockstep-cluster-tests",
            "lockstep-ebpf-build",
            "lockstep-loader",
            "lockstep-model",
            "lockstep-proto",
            "lockstep-raft-store",
            "lockstep-seeded",
        ],
    ),
    ("lockstep-bench-programs", &["lockstep-abi"]),
    ("lockstep-xtask", &[]),
];

/// These are simulated, or shared by everybody: no runtime, network or kernel library, at any depth.
const PURE: &[&str] = &["lockstep-model", "lockstep-ownership", "lockstep-sync-core"];
const IMPURE: &[&str] = &["tokio", "tonic", "aya", "openraft"];

/// Everything depends on this one's parts, nothing on it.
const TOP: &str = "lockstep-node";
const OURS: &str = "lockstep-";

pub(crate) fn check(root: &Path) -> Result<String> {
    let workspace = metadata(root, &root.join("Cargo.toml"), false)?;
    let mut members = packages(&workspace)?;
    let apart: Vec<Value> = PROGRAMS
        .iter()
        .map(|folder| metadata(root, &root.join(folder).join("Cargo.toml"), true))
        .collect::<Result<_>>()?;
    for programs in &apart {
        members.extend(packages(programs)?);
    }
    let mut wrong = Vec::new();
    let mut crates = 0;
    for package in members {
        if text(package, "name").starts_with(OURS) && package["source"].is_null() {
            crates += 1;
            direct(package, &mut wrong);
        }
    }
    let graph = Graph::of(&workspace)?;
    for name in PURE {
        graph.impurities(name, &mut wrong);
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{crates} crates"))
}

fn direct(package: &Value, wrong: &mut Vec<String>) {
    let name = text(package, "name");
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        wrong.push(format!(
            "{name} is not in the table of allowed dependencies (xtask/src/checks/dependencies.rs)"
        ));
        return;
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let used = text(dependency, "name");
        if !used.starts_with(OURS) || used == name {
            continue;
        }
        let is_for_tests = dependency["kind"] == "dev";
        if used == TOP || (!is_for_tests && !allowed.contains(&used)) {
            let list = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
            wrong.push(format!("{name} depends on {used}; allowed: {list}"));
        }
    }
}

/// Who uses whom, in what is shipped, as cargo resolved it.
struct Graph<'a> {
    names: BTreeMap<&'a str, &'a str>,
    uses: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    fn of(metadata: &'a Value) -> Result<Self> {
        let names =
            packages(metadata)?.into_iter().map(|package| (text(package, "id"), text(package, "name")));
        let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata resolved nothing")?;
        let uses = nodes.iter().map(|node| {
            let dependencies = node["deps"].as_array().into_iter().flatten();
            let shipped = dependencies.filter(|dependency| is_shipped(dependency));
            (text(node, "id"), shipped.map(|dependency| text(dependency, "pkg")).collect())
        });
        Ok(Self { names: names.collect(), uses: uses.collect() })
    }

    /// One line for each forbidden crate below `name`, with the way to it.
    fn impurities(&self, name: &str, wrong: &mut Vec<String>) {
        let Some((start, _)) = self.names.iter().find(|(_, known)| **known == name) else {
            wrong.push(format!("{name} is not in the workspace"));
            return;
        };
        let mut seen = BTreeSet::from([*start]);
        let mut open = vec![vec![*start]];
        while let Some(path) = open.pop() {
            let last = path[path.len() - 1];
            if IMPURE.contains(&self.names[last]) {
                let way: Vec<&str> = path.iter().map(|id| self.names[id]).collect();
                wrong.push(format!("{name} must stay pure: {}", way.join(" -> ")));
                continue;
            }
            for used in self.uses.get(last).into_iter().flatten() {
                if seen.insert(used) {
                    open.push(path.iter().copied().chain([*used]).collect());
                }
            }
        }
    }
}

/// Neither for tests nor for build scripts.
fn is_shipped(dependency: &Value) -> bool {
    dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null())
}

fn packages(metadata: &Value) -> Result<Vec<&Value>> {
    Ok(metadata["packages"].as_array().context("cargo metadata lists no packages")?.iter().collect())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_direction_is_named() {
        let package = json!({"name": "lockstep-model", "dependencies": [
            {"name": "serde", "kind": null},
            {"name": "lockstep-abi", "kind": null},
            {"name": "lockstep-node", "kind": "dev"},
            {"name": "lockstep-packet", "kind": "dev"},
        ]});
        let mut wrong = Vec::new();
        direct(&package, &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("lockstep-model depends on lockstep-abi"));
        assert!(wrong[1].starts_with("lockstep-model depends on lockstep-node"));
    }

    #[test]
    fn a_runtime_below_a_pure_crate_is_found_with_its_way() {
        let normal = json!([{"kind": null}]);
        let metadata = json!({
            "packages": [
                {"id": "s", "name": "lockstep-sync-core"}, {"id": "m", "name": "middle"},
                {"id": "t", "name": "tokio"}, {"id": "d", "name": "aya"},
            ],
            "resolve": {"nodes": [
                {"id": "s", "deps": [
                    {"pkg": "m", "dep_kinds": normal},
                    {"pkg": "d", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "m", "deps": [{"pkg": "t", "dep_kinds": normal}]},
            ]},
        });
        let mut wrong = Vec::new();
        Graph::of(&metadata).unwrap().impurities("lockstep-sync-core", &mut wrong);
        assert_eq!(wrong, ["lockstep-sync-core must stay pure: lockstep-sync-core -> middle -> tokio"]);
    }
}
