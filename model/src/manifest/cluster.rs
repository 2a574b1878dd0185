//! `kind: Cluster`.

use super::reader::Fields;
use crate::intent::{ClusterSettings, LeaseProfile, OnQuorumLoss};

pub(super) const LEASE: &[(&str, LeaseProfile)] =
    &[("fast", LeaseProfile::Fast), ("lan", LeaseProfile::Lan), ("wan", LeaseProfile::Wan)];
pub(super) const ON_QUORUM_LOSS: &[(&str, OnQuorumLoss)] = &[("fence", OnQuorumLoss::Fence)];

pub(super) fn read(document: &Fields<'_>) -> Option<ClusterSettings> {
    let spec = document.required("spec", "a mapping of fields")?.object()?;
    spec.only(&["lease", "on_quorum_loss"]);
    let lease = spec.or("lease", LeaseProfile::default(), |v| v.word(LEASE, ""));
    let on_quorum_loss =
        spec.or("on_quorum_loss", OnQuorumLoss::default(), |v| v.word(ON_QUORUM_LOSS, "keep is"));
    Some(ClusterSettings { lease: lease?, on_quorum_loss: on_quorum_loss? })
}
