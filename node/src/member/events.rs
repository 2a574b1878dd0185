//! What the lease thread wants the rest of the daemon to do.

use std::sync::Arc;
use std::time::Instant;

use lockstep_model::command::Command;
use lockstep_model::ids::{GroupId, NodeId};
use lockstep_model::state::Applied;
use lockstep_ownership::message::Tenure;
use tokio::sync::mpsc;

use crate::lease::{self, Event};
use crate::parts::Parts;
use crate::routing::Standing;

/// Serves events until the lease thread ends.
pub(super) async fn run(parts: Arc<Parts>, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        handle(&parts, event);
    }
}

fn handle(parts: &Arc<Parts>, event: Event) {
    tell_routing(parts, &event);
    match event {
        Event::Opened(tenure) => {
            tracing::info!(group = parts.group_name(tenure.group), epoch = %tenure.epoch, "this node owns the group");
            tokio::spawn(announce_again(parts.clone(), tenure));
        }
        Event::Lapsed(tenure) => {
            tracing::warn!(group = parts.group_name(tenure.group), epoch = %tenure.epoch, "the lease was not renewed in time: the kernel has stopped forwarding");
        }
        Event::Closed(tenure) => {
            tracing::info!(group = parts.group_name(tenure.group), epoch = %tenure.epoch, "this node owns the group no more");
            if let Some(sync) = parts.sync() {
                sync.closed(tenure.group, tenure.epoch);
            }
        }
        Event::Flush { tenure, deadline } => {
            let parts = parts.clone();
            tokio::task::spawn_blocking(move || {
                let Some(member) = parts.member.get() else { return };
                let begun = Instant::now();
                let in_time = member.sync.as_ref().is_none_or(|sync| sync.flush(lease::time_left(deadline)));
                member.lease.flushed(tenure);
                let (group, took) = (parts.group_name(tenure.group), begun.elapsed());
                if in_time {
                    tracing::info!(group, epoch = %tenure.epoch, ?took, "flows flushed, the group is handed over");
                } else {
                    let lag = member.sync.as_ref().map(|sync| sync.lag());
                    tracing::warn!(group, epoch = %tenure.epoch, ?took, ?lag, "not every flow reached the standby before the hand-over");
                }
            });
        }
        Event::IntentStale(stale) => {
            if let Some(dataplane) = &parts.dataplane {
                dataplane.refuse_new_flows(stale);
            }
            if stale {
                tracing::warn!(
                    "this node has fallen behind the cluster's log for too long: it reports itself unfit and takes no new flows"
                );
            } else {
                tracing::info!("this node has caught up with the cluster's log");
            }
        }
        Event::Assign { group, replaces, node, cause } => {
            tokio::spawn(assign(parts.clone(), Command::Assign { group, replaces, node }, cause.name()));
        }
        Event::SetReplicas { group, epoch, replaces, nodes } => {
            tokio::spawn(set_replicas(
                parts.clone(),
                group,
                Command::SetReplicas { group, epoch, replaces, nodes },
            ));
        }
        Event::TransferLeader(to) => {
            tokio::spawn(transfer(parts.clone(), to));
        }
        Event::Campaign { against } => {
            tokio::spawn(campaign(parts.clone(), against));
        }
        Event::Idle => tracing::debug!("nothing is owned"),
    }
}

fn tell_routing(parts: &Parts, event: &Event) {
    let Some(hook) = &parts.routing else { return };
    let (Tenure { group, epoch }, standing) = match event {
        Event::Opened(tenure) => (*tenure, Standing::Owner),
        Event::Lapsed(tenure) | Event::Closed(tenure) => (*tenure, Standing::Standby),
        _ => return,
    };
    hook.tell(group, parts.group_name(group), epoch, standing);
}

/// Repeats the announcement for as long as the lease is held.
pub(super) async fn announce_again(parts: Arc<Parts>, tenure: Tenure) {
    if let Some(dataplane) = &parts.dataplane {
        dataplane.announce_again(tenure).await;
    }
}

async fn assign(parts: Arc<Parts>, command: Command, cause: &'static str) {
    let Command::Assign { group, node, .. } = command else { return };
    let group = parts.group_name(group);
    match parts.raft.write(command).await {
        Ok(Applied::Changed { .. }) => tracing::info!(group, %node, cause, "group assigned"),
        Ok(Applied::Unchanged { .. }) => tracing::info!(group, %node, cause, "an assignment came too late"),
        Ok(Applied::Refused(refusal)) => {
            tracing::error!(group, %node, cause, %refusal, "an assignment was refused")
        }
        Err(error) => tracing::warn!(group, %node, cause, %error, "an assignment was not committed (yet)"),
    }
}

async fn set_replicas(parts: Arc<Parts>, group: GroupId, command: Command) {
    let group = parts.group_name(group);
    match parts.raft.write(command).await {
        Ok(Applied::Changed { lines, .. }) => {
            tracing::info!(group, change = lines.join("; "), "other nodes hold the flows")
        }
        Ok(Applied::Unchanged { lines, .. }) => {
            tracing::info!(group, why = lines.join("; "), "a change of who holds the flows came too late")
        }
        Ok(Applied::Refused(refusal)) => {
            tracing::error!(group, %refusal, "a change of who holds the flows was refused")
        }
        Err(error) => {
            tracing::warn!(group, %error, "a change of who holds the flows was not committed (yet)")
        }
    }
}

async fn transfer(parts: Arc<Parts>, to: NodeId) {
    match parts.raft.transfer_leader(to).await {
        Ok(()) => tracing::info!(%to, "leadership is handed over, away from an owner"),
        Err(error) => tracing::warn!(%to, %error, "leadership was not handed over"),
    }
}

async fn campaign(parts: Arc<Parts>, against: NodeId) {
    match parts.raft.campaign(against).await {
        Ok(true) => {
            tracing::warn!(%against, "a quorum does not hear what the leader owned: this node asks for votes to lead instead")
        }
        Ok(false) => tracing::info!(%against, "the leader was lost, and leads no more"),
        Err(error) => {
            tracing::warn!(%against, %error, "the leader is lost, and this node cannot ask for votes")
        }
    }
}
