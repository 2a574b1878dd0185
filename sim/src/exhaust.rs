//! The lease protocol, explored exhaustively for small bounds: every order in which the messages of an instant
//! arrive, every loss, delay, duplicate, restart and step of the log that the bounds allow, over the real
//! voters and owners. Depth first; a state that was seen is not entered again.

pub mod cluster;
pub mod scenario;
mod shared;
mod steps;

use std::collections::HashSet;

use self::cluster::Cluster;
use self::scenario::Scenario;

/// What an exploration found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explored {
    /// Different states entered.
    pub states: u64,
    /// Ends of schedules.
    pub ends: u64,
    /// States in which somebody serves.
    pub serving: u64,
    /// What must not happen and did, and the steps to it.
    pub violation: Option<(String, Vec<String>)>,
}

/// Explores all of a scenario, or until a violation. `None`: it has more states than `limit`.
pub fn explore(scenario: &Scenario, limit: u64) -> Option<Explored> {
    let mut found = Explored { states: 0, ends: 0, serving: 0, violation: None };
    let mut seen = HashSet::new();
    let first = Cluster::new(scenario);
    seen.insert(first.fingerprint());
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        found.states += 1;
        if found.states > limit {
            return None;
        }
        found.serving += u64::from(state.serves());
        if let Some(violation) = state.violation() {
            found.violation = Some((violation.to_owned(), state.steps()));
            return Some(found);
        }
        let next = state.successors();
        found.ends += u64::from(next.is_empty());
        open.extend(next.into_iter().filter(|s| seen.insert(s.fingerprint())));
    }
    Some(found)
}
