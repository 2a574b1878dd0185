//! Traffic of scenarios in which something happens meanwhile: connections that are held from beginning to end, and
//! flows whose every datagram is counted.

use std::net::SocketAddr;

use super::modes::intent::{FULLNAT, NAT, ONE_ARM};
use super::modes::{Family, start_servers};
use crate::cluster::Cluster;
use crate::traffic::counted::{self, Counted, Tally};
use crate::traffic::talk::held::{Flows, Held};
use crate::traffic::talk::server::Server;

/// Of each mode and family.
const COUNTED: usize = 3;
/// Rounds of every held flow after each change.
const ROUNDS: u64 = 3;
/// Datagrams that pass at least before and after each change, and while nobody manages the dataplane.
pub(super) const MEANWHILE: u64 = 1000;

/// Servers, connections that are held all the time, and flows that are counted from one change to the next.
pub(super) struct Traffic {
    held: Held,
    flows: Vec<counted::Flow>,
    _servers: Vec<Server>,
}

impl Traffic {
    /// `patient` connections' datagrams may be lost, their flows not.
    pub(super) fn start(cluster: &Cluster, patient: bool) -> anyhow::Result<Self> {
        let servers = start_servers(cluster)?;
        let clients = &cluster.topology.clients;
        let mut held = Flows { patient, ..Flows::default() };
        let mut flows = Vec::new();
        for family in Family::both() {
            for (mode, port) in [("nat", NAT), ("fullnat", FULLNAT), ("one-arm", ONE_ARM)] {
                let name = format!("{mode} {}", family.name);
                let to = SocketAddr::new(family.vip, port);
                held.open(&name, clients, family.clients[0], to)?;
                for number in 0..COUNTED {
                    let from = family.clients[number % family.clients.len()];
                    flows.push(counted::Flow::open(&name, clients, from, to)?);
                }
            }
        }
        Ok(Traffic { held: Held::start(held)?, flows, _servers: servers })
    }

    /// What became of every datagram that was sent while `change` went on, and for a while before and after.
    pub(super) fn count(
        &mut self,
        change: impl FnOnce(&Counted) -> anyhow::Result<()>,
    ) -> anyhow::Result<Tally> {
        let counted = Counted::start(std::mem::take(&mut self.flows))?;
        counted.answered(MEANWHILE)?;
        change(&counted)?;
        counted.answered(MEANWHILE)?;
        self.held.rounds(ROUNDS)?;
        let (flows, tally) = counted.finish()?;
        self.flows = flows;
        Ok(tally)
    }

    /// Waits until every held connection has talked a few times more.
    pub(super) fn goes_on(&self) -> anyhow::Result<()> {
        self.held.rounds(ROUNDS)
    }

    /// Stops, and demands that no held connection noticed anything.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.held.stop().map(drop)
    }
}
