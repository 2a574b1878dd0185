//! The lease protocol explored exhaustively, for the bounds that each scenario names: without faults, and with one
//! fault of each kind that is named.

use lockstep_sim::exhaust::explore;
use lockstep_sim::exhaust::scenario::{self, Budget, Scenario};

/// Beyond what any of them has: some ten seconds.
const LIMIT: u64 = 200_000;

const NONE: Budget = Budget { all: 0, lost: 0, late: 0, twice: 0, restarts: 0 };
const LOST: Budget = Budget { all: 1, lost: 1, ..NONE };
const LATE: Budget = Budget { all: 1, late: 1, ..NONE };
const TWICE: Budget = Budget { all: 1, twice: 1, ..NONE };
const RESTART: Budget = Budget { all: 1, restarts: 1, ..NONE };

/// Explores all of it.
fn holds(name: &str, scenario: Scenario, budget: Budget) {
    let scenario = Scenario { budget, ..scenario };
    let Some(found) = explore(&scenario, LIMIT) else {
        panic!("{name}, {budget:?}: more than {LIMIT} states");
    };
    if let Some((violation, steps)) = found.violation {
        panic!("{name}, {budget:?}: {violation}\n{}", steps.join("\n"));
    }
    println!(
        "{name}, {budget:?}: {} states, {} ends, {} with a lease",
        found.states, found.ends, found.serving
    );
    assert!(found.serving > 0, "{name}: nothing is ever served");
}

#[test]
fn i3_model_two_leaders_propose_owners_at_once() {
    for budget in [NONE, LOST, LATE, TWICE, RESTART] {
        holds("two leaders, 5 voters", scenario::two_leaders(), budget);
    }
}

#[test]
fn i3_model_a_voter_restarts_inside_its_promise() {
    holds("restarted voter, 3 voters", scenario::restarted_voter(), RESTART);
}

#[test]
fn i3_model_the_voters_change_twice() {
    holds("two memberships, 4 nodes", scenario::two_memberships(), NONE);
    // The owner that loses its vote knows of it from its log alone.
    let lagging = scenario::nodes([1]);
    let scenario = Scenario { lagging, ..scenario::two_memberships() };
    holds("two memberships, 4 nodes, an owner that applies nothing", scenario, NONE);
}

#[test]
fn i3_model_an_address_moves_between_groups() {
    holds("moved address, 3 voters", scenario::moved_address(), NONE);
}
