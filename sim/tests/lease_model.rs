//! The lease protocol explored exhaustively, for the bounds that each scenario names.

use lockstep_sim::exhaust::explore;
use lockstep_sim::exhaust::scenario::{self, Scenario};

const LIMIT: u64 = 3_000_000;

fn holds(name: &str, scenario: &Scenario) {
    let found = explore(scenario, LIMIT);
    println!("{name}: {} states, {} ends, {} with a lease", found.states, found.ends, found.serving);
    if let Some((violation, steps)) = found.violation {
        panic!("{name}: {violation}\n{}", steps.join("\n"));
    }
    assert!(found.serving > 1000, "{name}: hardly anything is ever served");
}

#[test]
fn i3_model_two_leaders_propose_owners_at_once() {
    holds("two leaders", &scenario::two_leaders());
}

#[test]
fn i3_model_a_voter_restarts_inside_its_promise() {
    holds("restarted voter", &scenario::restarted_voter());
}

#[test]
fn i3_model_the_voters_change_twice() {
    holds("two memberships", &scenario::two_memberships());
}

#[test]
fn i3_model_an_address_moves_between_groups() {
    holds("moved address", &scenario::moved_address());
}
