//! `apply` by kind of command. Every handler works on a draft, which replaces the state only when the whole
//! command is accepted: a refused command cannot leave a trace.

mod addresses;
mod assign;
mod blocks;
mod change;
mod group;
mod health;
mod node;
mod replicas;
mod service;
mod snat;

use crate::check::Problem;
use crate::command::Command;
use crate::ids::LogIndex;
use crate::state::{Applied, Refusal, State};

pub(crate) fn apply(state: &mut State, index: LogIndex, command: &Command) -> Applied {
    let applied = match command {
        Command::Change { expected, changes } => change::apply(state, index, *expected, changes),
        Command::RegisterNode { id, spec } => node::register(state, *id, spec),
        Command::Assign { group, replaces, node } => assign::assign(state, index, *group, *replaces, *node),
        Command::SetReplicas { group, epoch, replaces, nodes } => {
            replicas::set(state, index, *group, *epoch, replaces, nodes)
        }
        Command::AllocatePortBlocks { address, count } => blocks::allocate(state, *address, *count),
        Command::ReleasePortBlocks { address, blocks } => blocks::release(state, *address, *blocks),
        Command::Judge { at_unix_ms, judgements } => health::judge(state, index, *at_unix_ms, judgements),
        Command::AdmitNode { installation, spec } => node::admit(state, *installation, spec),
        Command::DrainNode { id, draining } => node::drain(state, *id, *draining),
        Command::RemoveNode { id } => node::remove(state, *id),
    };
    applied.unwrap_or_else(Applied::Refused)
}

/// The first thing wrong with an object by itself, as a refusal about `object` (e.g. `service/web`).
fn refuse_first(object: &str, problems: Vec<Problem>) -> Result<(), Refusal> {
    match problems.into_iter().next() {
        None => Ok(()),
        Some(Problem { path, value, allowed }) => {
            Err(Refusal::Invalid { path: format!("{object}: {path}"), value, allowed })
        }
    }
}

fn invalid(path: String, value: impl std::fmt::Display, allowed: impl Into<String>) -> Refusal {
    Refusal::Invalid { path, value: value.to_string(), allowed: allowed.into() }
}

fn not_found(kind: &str, name: impl std::fmt::Display) -> Refusal {
    Refusal::NotFound { kind: kind.into(), name: name.to_string() }
}

fn or_none(names: Vec<&str>) -> String {
    if names.is_empty() { "none exists yet".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
