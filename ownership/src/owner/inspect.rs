//! What an owner says of itself.

use lockstep_model::ids::NodeId;

use super::{Counters, Owner, Phase, Until};
use crate::message::Tenure;
use crate::time::Instant;

impl Owner {
    /// Whether nothing is claimed and nothing is left to give back.
    pub fn is_idle(&self) -> bool {
        self.claims.is_empty() && self.releases.is_empty()
    }

    /// The tenures whose lease is held now.
    pub fn holding(&self, now: Instant) -> impl Iterator<Item = Tenure> + '_ {
        self.claims.iter().filter(move |(_, c)| c.holds(now)).map(|(t, _)| *t)
    }

    /// Epochs given back, by group.
    pub fn given_back(&self) -> impl Iterator<Item = Tenure> + '_ {
        self.given_back.iter().map(|(group, epoch)| Tenure { group: *group, epoch: *epoch })
    }

    /// Every claim with its phase and the end of its lease, for inspection.
    pub fn claims(&self) -> impl Iterator<Item = (Tenure, Phase, Option<Until>)> + '_ {
        self.claims.iter().map(|(t, c)| (*t, c.phase, c.until))
    }

    /// By voter, when its promise for a tenure ends.
    pub fn promises(&self, tenure: Tenure) -> impl Iterator<Item = (NodeId, Instant)> + '_ {
        self.claims.get(&tenure).into_iter().flat_map(|c| c.promises.iter().map(|(n, i)| (*n, *i)))
    }

    /// The send time of the newest request that counts for a tenure's lease.
    pub fn last_renewal(&self, tenure: Tenure) -> Option<Instant> {
        self.claims.get(&tenure)?.last_renewal
    }

    /// Whether the intent lags for too long.
    pub fn intent_is_stale(&self) -> bool {
        self.staleness.is_stale()
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        Counters {
            releases: self.releases.sent,
            releases_given_up: self.releases.given_up,
            ..self.counters.clone()
        }
    }
}
