//! The faults that a run chooses from, and how each is done.

use std::time::Duration;

use anyhow::Context;

use crate::cluster::Cluster;
use crate::harm::{Harm, heal};
use crate::nft::Loss;
use crate::topology::{Node, Side};
use crate::wait;

/// How long a node may write on what its log's last page has room for.
const NOTICE_LIMIT: Duration = Duration::from_secs(20);

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    OwnerLosesPower,
    StandbyLosesPower,
    OwnerKilled,
    OwnerStopped,
    LeaderStopped,
    StandbyStopped,
    ClientLinkCut,
    EndpointLinkCut,
    OwnerIsolated,
    OwnerIsolatedFromWitness,
    StandbyIsolated,
    LeaderIsolated,
    OwnerHearsNothing,
    OwnerIsNotHeard,
    StandbyHearsNothing,
    StandbyIsNotHeard,
    TwoOfThreeDown,
    KilledDuringFailover,
    VoterRestarts,
    BothBalancersKilled,
    Blackout,
    SwitchForgets,
    OwnerDiskFull,
    StandbyDiskFull,
    LeaderDiskFull,
    EveryDiskFull,
    WitnessDataDeleted,
    StandbyDataDeleted,
}

/// Who is who when a fault begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roles {
    pub(crate) owner: Node,
    pub(crate) leader: Node,
}

impl Step {
    pub(crate) const ALL: [Step; 28] = [
        Step::OwnerLosesPower,
        Step::StandbyLosesPower,
        Step::OwnerKilled,
        Step::OwnerStopped,
        Step::LeaderStopped,
        Step::StandbyStopped,
        Step::ClientLinkCut,
        Step::EndpointLinkCut,
        Step::OwnerIsolated,
        Step::OwnerIsolatedFromWitness,
        Step::StandbyIsolated,
        Step::LeaderIsolated,
        Step::OwnerHearsNothing,
        Step::OwnerIsNotHeard,
        Step::StandbyHearsNothing,
        Step::StandbyIsNotHeard,
        Step::TwoOfThreeDown,
        Step::KilledDuringFailover,
        Step::VoterRestarts,
        Step::BothBalancersKilled,
        Step::Blackout,
        Step::SwitchForgets,
        Step::OwnerDiskFull,
        Step::StandbyDiskFull,
        Step::LeaderDiskFull,
        Step::EveryDiskFull,
        Step::WitnessDataDeleted,
        Step::StandbyDataDeleted,
    ];

    /// As in the timeline.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Step::OwnerLosesPower => "the owner loses power",
            Step::StandbyLosesPower => "the standby loses power",
            Step::OwnerKilled => "the owner's daemon is killed",
            Step::OwnerStopped => "the owner is stopped",
            Step::LeaderStopped => "the leader is stopped",
            Step::StandbyStopped => "the standby is stopped",
            Step::ClientLinkCut => "the owner's client-side link is cut",
            Step::EndpointLinkCut => "the owner's endpoint-side link is cut",
            Step::OwnerIsolated => "the owner is isolated",
            Step::OwnerIsolatedFromWitness => "owner and witness do not hear each other",
            Step::StandbyIsolated => "the standby is isolated",
            Step::LeaderIsolated => "the leader is isolated",
            Step::OwnerHearsNothing => "the owner hears nothing",
            Step::OwnerIsNotHeard => "the owner is not heard",
            Step::StandbyHearsNothing => "the standby hears nothing",
            Step::StandbyIsNotHeard => "the standby is not heard",
            Step::TwoOfThreeDown => "owner and witness lose power",
            Step::KilledDuringFailover => "the owner loses power, and the standby is killed as it takes over",
            Step::VoterRestarts => "the witness is killed and starts again at once",
            Step::BothBalancersKilled => "both balancers' daemons are killed",
            Step::Blackout => "everything loses power, and gets it back at once",
            Step::SwitchForgets => "the switch forgets its addresses",
            Step::OwnerDiskFull => "the owner's disk is full",
            Step::StandbyDiskFull => "the standby's disk is full",
            Step::LeaderDiskFull => "the leader's disk is full",
            Step::EveryDiskFull => "every disk is full",
            Step::WitnessDataDeleted => "the witness's data directory is deleted",
            Step::StandbyDataDeleted => "the standby's data directory is deleted",
        }
    }

    /// Those whose name contains `part`.
    pub(crate) fn named(part: &str) -> anyhow::Result<Vec<Step>> {
        let named: Vec<Step> = Step::ALL.into_iter().filter(|step| step.name().contains(part)).collect();
        anyhow::ensure!(
            !named.is_empty(),
            "--fault: {part:?} is part of no fault's name: {}",
            Step::ALL.map(Step::name).join("; ")
        );
        Ok(named)
    }

    /// Whether no flow can survive it: no kernel does.
    pub(crate) const fn ends_flows(self) -> bool {
        matches!(self, Step::Blackout)
    }

    /// Does it, lets it last for `hold`, and takes it back. Every node answers when this returns.
    pub(crate) fn run(self, cluster: &mut Cluster, roles: Roles, hold: Duration) -> anyhow::Result<()> {
        let harms = self.inject(cluster, roles)?;
        wait::pass(hold)?;
        heal(cluster, harms).with_context(|| format!("healing: {}", self.name()))
    }

    fn inject(self, cluster: &mut Cluster, Roles { owner, leader }: Roles) -> anyhow::Result<Vec<Harm>> {
        let standby = owner.other();
        let topology = &cluster.topology;
        let around = |node| Loss::around(topology, node).map(|loss| vec![Harm::Lost(loss)]);
        let deaf = |node: Node| Loss::one_way(topology, &node.others(), &[node]);
        let mute = |node: Node| Loss::one_way(topology, &[node], &node.others());
        Ok(match self {
            Step::OwnerLosesPower => vec![Harm::cut_power(cluster, owner)?],
            Step::StandbyLosesPower => vec![Harm::cut_power(cluster, standby)?],
            Step::OwnerKilled => vec![Harm::kill(cluster, owner)?],
            Step::OwnerStopped => vec![Harm::stop(cluster, owner)?],
            Step::LeaderStopped => vec![Harm::stop(cluster, leader)?],
            Step::StandbyStopped => vec![Harm::stop(cluster, standby)?],
            Step::ClientLinkCut => vec![Harm::cut(cluster, owner, Side::Client)?],
            Step::EndpointLinkCut => vec![Harm::cut(cluster, owner, Side::Endpoint)?],
            Step::OwnerIsolated => around(owner)?,
            Step::OwnerIsolatedFromWitness => vec![Harm::Lost(Loss::between(topology, owner, &[Node::W])?)],
            Step::StandbyIsolated => around(standby)?,
            Step::LeaderIsolated => around(leader)?,
            Step::OwnerHearsNothing => vec![Harm::Lost(deaf(owner)?)],
            Step::OwnerIsNotHeard => vec![Harm::Lost(mute(owner)?)],
            Step::StandbyHearsNothing => vec![Harm::Lost(deaf(standby)?)],
            Step::StandbyIsNotHeard => vec![Harm::Lost(mute(standby)?)],
            Step::TwoOfThreeDown => {
                vec![Harm::cut_power(cluster, owner)?, Harm::cut_power(cluster, Node::W)?]
            }
            Step::KilledDuringFailover => {
                let first = Harm::cut_power(cluster, owner)?;
                cluster.wait_takeover(standby)?;
                vec![first, Harm::kill(cluster, standby)?]
            }
            Step::VoterRestarts => {
                let killed = Harm::kill(cluster, Node::W)?;
                heal(cluster, vec![killed])?;
                Vec::new()
            }
            Step::BothBalancersKilled => {
                vec![Harm::kill(cluster, owner)?, Harm::kill(cluster, standby)?]
            }
            Step::Blackout => Node::ALL
                .into_iter()
                .map(|node| Harm::cut_power(cluster, node))
                .collect::<anyhow::Result<_>>()?,
            Step::SwitchForgets => {
                topology.forget_addresses()?;
                Vec::new()
            }
            Step::OwnerDiskFull => fill(cluster, &[owner])?,
            Step::StandbyDiskFull => fill(cluster, &[standby])?,
            Step::LeaderDiskFull => fill(cluster, &[leader])?,
            Step::EveryDiskFull => fill(cluster, &Node::ALL)?,
            Step::WitnessDataDeleted => vec![Harm::delete_data(cluster, Node::W)?],
            Step::StandbyDataDeleted => vec![Harm::delete_data(cluster, standby)?],
        })
    }
}

/// Fills disks and waits until the nodes notice, which they do when they write; of three, two: the third has nothing to write then.
fn fill(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<Vec<Harm>> {
    let harms = nodes.iter().map(|node| Harm::fill_disk(cluster, *node)).collect::<anyhow::Result<_>>()?;
    wait::until("full disks to be noticed", NOTICE_LIMIT, || {
        let full = cluster.with_full_disks()?;
        let noticed = nodes.iter().filter(|node| full.contains(node)).count();
        Ok((noticed >= nodes.len().div_ceil(2)).then_some(()))
    })?;
    Ok(harms)
}
