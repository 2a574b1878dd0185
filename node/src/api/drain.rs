//! `node drain` and `node undrain`: an operator takes a node out of service, and puts it back.
//!
//! That it shall own nothing is agreed on, so that it stays so while the machine is worked on and restarted. The leader
//! then gives its groups to others as it does for a node that ends: flows are flushed while it still forwards.

use std::time::Duration;

use lockstep_model::command::Command;
use lockstep_model::ids::NodeId;
use lockstep_model::state::{Applied, State};
use lockstep_proto::admin::v1 as pb;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::admin::Admin;
use super::refuse;

/// How long the answer waits for the groups to be elsewhere: less than clients wait for the answer (5 s).
const HAND_OVER: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(10);

impl Admin {
    pub(super) async fn drain(&self, request: pb::DrainNodeRequest) -> Result<pb::DrainNodeResponse, Status> {
        let pb::DrainNodeRequest { node, draining } = request;
        let state = self.state(false).await?;
        let id = state.node(&node).ok_or_else(|| refuse::absent("node", &node))?.0;
        let written = self.parts.raft.write(Command::DrainNode { id, draining }).await;
        let changed = match written.map_err(|e| refuse::raft(&e))? {
            Applied::Changed { .. } => true,
            Applied::Unchanged { .. } => false,
            Applied::Refused(refusal) => return Err(refuse::refused(&refusal)),
        };
        if changed {
            tracing::info!(node, draining, "node drained or undrained, as an operator asked");
        }
        if !draining {
            return Ok(pb::DrainNodeResponse { changed, owned: Vec::new() });
        }
        let end = Instant::now() + HAND_OVER;
        loop {
            let owned = owned(&*self.state(false).await?, id);
            if owned.is_empty() || Instant::now() >= end {
                return Ok(pb::DrainNodeResponse { changed, owned });
            }
            sleep(LOOK).await;
        }
    }
}

fn owned(state: &State, node: NodeId) -> Vec<String> {
    let owned =
        state.groups.values().filter(|group| group.assignment.is_some_and(|owner| owner.node == node));
    owned.map(|group| group.spec.name.clone()).collect()
}
