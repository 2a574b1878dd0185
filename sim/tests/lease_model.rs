//! The lease protocol explored exhaustively, for the bounds that each scenario names: first without faults, then
//! with one, then with two, as far as the number of states allows.

use lockstep_sim::exhaust::explore;
use lockstep_sim::exhaust::scenario::{self, Scenario};

/// States of one exploration: some seconds.
const LIMIT: u64 = 250_000;
/// Where fewer are known to be all.
const FEW: u64 = 40_000;

/// Explores with up to `complete` faults, which must be possible, and tries one more.
fn holds(name: &str, scenario: &Scenario, complete: u8, limit: u64) {
    for faults in 0..=complete + 1 {
        let mut scenario = scenario.clone();
        scenario.budget.all = faults;
        let Some(found) = explore(&scenario, limit) else {
            println!("{name}: {faults} faults: more than {limit} states");
            assert!(faults > complete, "{name}: {faults} faults cannot be explored any more");
            return;
        };
        if let Some((violation, steps)) = found.violation {
            panic!("{name}: {violation}\n{}", steps.join("\n"));
        }
        println!(
            "{name}: {faults} faults: {} states, all; {} ends, {} with a lease",
            found.states, found.ends, found.serving
        );
        assert!(found.serving > 0, "{name}: nothing is ever served");
    }
}

#[test]
#[ignore = "its bounds are not settled: whether all states are within the limit has not been seen"]
fn i3_model_two_leaders_propose_owners_at_once() {
    holds("two leaders, 5 voters", &scenario::two_leaders(), 0, LIMIT);
}

#[test]
#[ignore = "its bounds are not settled: whether all states are within the limit has not been seen"]
fn i3_model_a_voter_restarts_inside_its_promise() {
    holds("restarted voter, 3 voters", &scenario::restarted_voter(), 0, LIMIT);
}

#[test]
#[ignore = "its bounds are not settled: whether all states are within the limit has not been seen"]
fn i3_model_the_voters_change_twice() {
    holds("two memberships, 4 nodes", &scenario::two_memberships(), 0, LIMIT);
}

#[test]
fn i3_model_an_address_moves_between_groups() {
    holds("moved address, 3 voters", &scenario::moved_address(), 0, FEW);
}
