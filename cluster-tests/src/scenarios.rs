//! The tests that need a whole cluster, one file each.

use std::time::Duration;

use crate::report::Report;

mod bad_input;
mod chaos;
mod disk_full;
mod divergence;
mod doctor;
mod drain;
mod endpoint_changed;
mod fault_back;
mod faults;
mod five_voters;
mod flows_shown;
mod group_move;
mod harness;
mod health;
mod interfaces;
mod leaks;
mod lease_planted;
mod links;
mod membership;
mod modes;
mod oddities;
mod reply_without_flow;
mod restart_each;
mod sigterm;
mod standby_joins;
mod standbys;
mod sync_none;
mod traffic;
mod upgrade;

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it shows.
    pub what: &'static str,
    /// How long it may take before it is stopped and counted as failed.
    pub limit: Duration,
    /// Whether another may run beside it: it measures no time, counts no losses, and looks at nothing
    /// that the other may change.
    pub calm: bool,
    /// The test.
    pub run: fn() -> anyhow::Result<()>,
}

const fn scenario(name: &'static str, what: &'static str, run: fn() -> anyhow::Result<()>) -> Scenario {
    Scenario { name, what, limit: Duration::from_secs(120), calm: false, run }
}

/// A test that another may run beside.
const fn calm(name: &'static str, what: &'static str, run: fn() -> anyhow::Result<()>) -> Scenario {
    Scenario { limit: Duration::from_secs(240), calm: true, ..scenario(name, what, run) }
}

/// All of them, in the order they run: the calm ones last.
pub const ALL: &[Scenario] = &[
    scenario("harness", "traffic and judge see what they must, without a balancer", harness::run),
    scenario(
        "power_owner_not_leader",
        "the owner loses power, the leader is elsewhere: every flow goes on",
        faults::power_owner_not_leader,
    ),
    scenario(
        "power_owner_leads",
        "the owner loses power while it leads: every flow goes on",
        faults::power_owner_leads,
    ),
    scenario("kill", "only the owner's daemon dies", faults::kill),
    scenario(
        "pause",
        "a stopped owner forwards nothing after its lease, nor when it wakes (I3, I4)",
        faults::pause,
    ),
    scenario("link", "the owner's client-side link goes down", faults::link),
    scenario("no_fault", "nothing happens, and nothing changes hands", faults::none),
    scenario("sigterm", "SIGTERM of the owner gives the group away", sigterm::run),
    calm("group_move", "an operator moves a group there and back: no flow is lost", group_move::run),
    scenario(
        "standbys",
        "a group's standby, and no other node, holds its flows, and is replaced when it is lost (I5)",
        standbys::run,
    ),
    scenario(
        "drain",
        "a drained owner's flows go on, it is given nothing until it is undrained, and then its group back",
        drain::run,
    ),
    scenario("restart_each", "each node is restarted in turn under traffic", restart_each::run),
    scenario("fault_back", "a second power cut gives the group back to the first node", fault_back::run),
    Scenario {
        limit: Duration::from_secs(200),
        ..scenario(
            "chaos",
            "random faults from one seed, under traffic and concurrent writes (I2, I3)",
            chaos::run,
        )
    },
    calm(
        "owner_isolated",
        "nodes do not hear the owner, nor it them: another serves, and only it (I3)",
        oddities::partitions::owner_isolated,
    ),
    calm(
        "owner_isolated_from_witness",
        "one broken link moves neither owner nor leader",
        oddities::partitions::owner_isolated_from_witness,
    ),
    calm(
        "one_way_loss",
        "an owner that is not heard, and one that does not hear, loses the group (I3)",
        oddities::partitions::one_way_loss,
    ),
    calm(
        "standby_isolated",
        "a standby that is away disturbs nobody, and catches up (I5)",
        oddities::partitions::standby_isolated,
    ),
    calm(
        "leader_isolated",
        "without its leader a cluster serves on, elects another, and answers no stale read (I2)",
        oddities::partitions::leader_isolated,
    ),
    calm("pause_others", "leader and standby stop, and nothing moves", oddities::stops::pause_others),
    calm("switch_forgets", "a switch floods, and no flow notices", oddities::stops::switch_forgets),
    calm(
        "missed_announcements",
        "clients and endpoints that send to the standby are told again where the owner is",
        oddities::stops::missed_announcements,
    ),
    calm(
        "two_of_three_down",
        "an owner left alone stops serving, and serves again (I3)",
        oddities::deaths::two_of_three_down,
    ),
    calm(
        "owner_and_witness",
        "an owner that returns with an empty kernel leaves its group to the standby (I5)",
        oddities::deaths::owner_and_witness,
    ),
    calm(
        "killed_during_failover",
        "a successor's daemon dies as it takes over, and no flow is lost",
        oddities::deaths::killed_during_failover,
    ),
    calm(
        "voter_restarts_inside_promise",
        "a voter that starts again promises nothing for MAX_LEASE (I3)",
        oddities::deaths::voter_restarts_inside_promise,
    ),
    calm(
        "blackout",
        "everything is powered on at once: served again, with all that was agreed on (I1, I3)",
        oddities::deaths::blackout,
    ),
    calm(
        "five_voters",
        "two of five voters lose power, the owner among them: every group is served, and writes are taken (I1)",
        five_voters::run,
    ),
    calm(
        "deleted_data_dir",
        "a voter without its data counts for nothing until it joins anew (I3)",
        oddities::amnesia::run,
    ),
    calm(
        "divergence",
        "what changes in a standby's kernel behind its daemon's back is found and repaired (I5)",
        divergence::run,
    ),
    calm("flows_shown", "`lockstep flows` on the standby shows what the owner shows", flows_shown::run),
    scenario(
        "reply_without_flow",
        "an endpoint's reply without a flow leaks from neither node (I10)",
        reply_without_flow::run,
    ),
    scenario(
        "standby_joins",
        "a standby joins when 100,000 flows exist and new ones arrive",
        standby_joins::run,
    ),
    scenario("sync_none", "negative control: without replication flows are lost", sync_none::run),
    scenario("lease_planted", "negative control: a forged lease shows as an overlap", lease_planted::run),
    calm(
        "interfaces",
        "reflection, health, metrics and counters answer; strangers are kept out",
        interfaces::run,
    ),
    calm(
        "endpoint_changed",
        "one endpoint is drained, weighed and enabled by command, and `diff` says so",
        endpoint_changed::run,
    ),
    calm("bad_input", "bad input is refused by name, and changes nothing", bad_input::run),
    scenario(
        "health",
        "an endpoint that is down gets no new flows and keeps its live ones; one node alone is not believed (I9)",
        health::run,
    ),
    scenario(
        "disk_full",
        "the owner's disk is full, then everybody's: no flow ends, writes are refused, all go on by themselves (I1)",
        disk_full::run,
    ),
    scenario(
        "membership_grow",
        "one node becomes three under traffic: its lease never lapses, and then a death is survived (I3)",
        membership::grow::run,
    ),
    calm(
        "membership_learner",
        "a node without a vote serves a group, and a voter takes over from it",
        membership::learner::run,
    ),
    calm(
        "membership_leave",
        "an owner hands over and leaves, the witness leaves, the last node is kept",
        membership::leave::run,
    ),
    calm(
        "membership_replace",
        "a dead node is replaced under its name; who does not belong is refused",
        membership::replace::run,
    ),
    calm(
        "membership_recover",
        "two of three are gone for good: a new cluster in epochs beyond the old, and a backup restored",
        membership::recover::run,
    ),
    Scenario {
        limit: Duration::from_secs(240),
        ..scenario("modes", "each mode, over IPv4 and IPv6, with real clients and mixed hooks", modes::run)
    },
    Scenario {
        limit: Duration::from_secs(240),
        ..scenario(
            "upgrade_alone",
            "a node alone is restarted and upgraded at each hook, and loses no datagram (I12)",
            upgrade::alone::run,
        )
    },
    scenario(
        "upgrade_pair",
        "a pair is upgraded to other programs and back, and loses no flow (I12)",
        upgrade::pair::run,
    ),
    scenario(
        "other_layout",
        "a daemon that needs other maps refuses, touches nothing, and says what to do",
        upgrade::layout::run,
    ),
    scenario(
        "interface_returns",
        "a node alone loses interfaces and gets them back, and hardware addresses change",
        links::alone,
    ),
    scenario("interface_of_owner", "an owner loses an interface, and gets it back as a standby", links::pair),
    scenario("doctor", "`lockstep doctor` finds strangers' programs and stale pins", doctor::run),
    Scenario {
        limit: Duration::from_secs(240),
        ..scenario("leaks", "success, failure, SIGINT and SIGKILL leave nothing behind", leaks::run)
    },
];

/// An error unless the report says pass.
fn demand_pass(report: &Report) -> anyhow::Result<()> {
    print!("{}", report.table());
    anyhow::ensure!(report.result == "pass", "{}", report.failures.join("; "));
    Ok(())
}
