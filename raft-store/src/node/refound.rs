//! Backups, and new clusters that are made from old ones.

use std::sync::Arc;

use lockstep_model::ids::LogIndex;
use lockstep_model::state::{State, apply};

use super::{Departure, Inner, RaftError};
use crate::backup::Backup;
use crate::layout::Identity;
use crate::types::Payload;

impl Inner {
    /// The state with everything in it that was acknowledged before the call.
    pub(super) async fn backup(self: Arc<Self>) -> Result<Backup, RaftError> {
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        self.clone().read().await?;
        let published = self.published.borrow().clone();
        Ok(Backup {
            cluster_name: member.identity().cluster_name.clone(),
            cluster_id: member.identity().cluster_id,
            log_index: published.applied.map_or(0, LogIndex::get),
            term: member.metrics().term,
            state: State::clone(&published.state),
        })
    }

    /// Begins a new cluster, of this node without data, with a backup's intent.
    pub(super) async fn restore(self: Arc<Self>, backup: Backup) -> Result<Identity, RaftError> {
        let _forming = self.forming.lock().await;
        if let Some(member) = self.member()
            && !member.is_pristine()
        {
            let identity = member.identity();
            return Err(RaftError::AlreadyMember {
                name: identity.cluster_name.clone(),
                cluster_id: identity.cluster_id,
                node: identity.node,
            });
        }
        self.refound(backup)
    }

    /// Begins a new cluster, of this node alone, with all that it knows of the old one. Refused while the old one works.
    pub(super) async fn recover(self: Arc<Self>) -> Result<Identity, RaftError> {
        let member = self.member().ok_or(RaftError::NotInitialised)?;
        let _forming = self.forming.lock().await;
        if self.clone().read().await.is_ok() {
            return Err(RaftError::Refused(
                "a majority of this cluster's voters answers: there is nothing to recover from".into(),
            ));
        }
        // Nothing is added from here on.
        member.shutdown().await;
        let published = self.published.borrow().clone();
        let mut state = State::clone(&published.state);
        let unapplied = member.unapplied(published.applied);
        for entry in &unapplied.entries {
            // It may have been acknowledged by those who are lost.
            if let Payload::Normal(proposal) = &entry.payload {
                apply(&mut state, LogIndex(entry.log_id.index), &proposal.0);
            }
        }
        let identity = member.identity();
        tracing::warn!(
            cluster = %identity.cluster_id, applied = published.applied.map_or(0, LogIndex::get), last = unapplied.last,
            "a new cluster is made of this node, as an operator demands"
        );
        self.refound(Backup {
            cluster_name: identity.cluster_name.clone(),
            cluster_id: identity.cluster_id,
            log_index: unapplied.last,
            term: unapplied.term,
            state,
        })
    }

    fn refound(&self, backup: Backup) -> Result<Identity, RaftError> {
        let (successor, identity) = backup.found(&self.config.cluster_name, self.config.address);
        self.dir.set_successor(&successor)?;
        self.departed.send_replace(Some(Departure::Refounded));
        Ok(identity)
    }
}
