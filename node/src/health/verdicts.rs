//! While this node leads: judges what the nodes report, and proposes the verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lockstep_model::command::Command;
use lockstep_model::health::Judgement;
use lockstep_model::limits::MAX_JUDGEMENTS;
use lockstep_model::state::Applied;
use lockstep_raft_store::Role;

use super::judge::Judge;
use crate::parts::Parts;

/// Silence decides, too, and nothing announces it.
const LOOK: Duration = Duration::from_millis(100);

/// Runs for as long as the node does.
pub(super) async fn run(parts: Arc<Parts>) {
    let mut metrics = parts.raft.watch_metrics();
    let mut term = None;
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            (metrics.role == Role::Leader).then_some(metrics.term)
        };
        if now != term {
            term = now;
            // What was reported to a former leader, this one in an earlier term included, is not known.
            let judge = term.map(|_| Judge::new(Instant::now()));
            *parts.health.judge.lock().expect("no holder panics") = judge;
            *parts.health.inbox.lock().expect("no holder panics") = term.map(|_| BTreeMap::new());
        }
        if term.is_some() {
            judge(&parts).await;
            tokio::select! {
                () = parts.health.reported.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                changed = metrics.changed() => if changed.is_err() { return },
            }
        } else if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn judge(parts: &Parts) {
    let judgements = {
        let reports = {
            let mut inbox = parts.health.inbox.lock().expect("no holder panics");
            inbox.as_mut().map(std::mem::take).unwrap_or_default()
        };
        let mut judge = parts.health.judge.lock().expect("no holder panics");
        let Some(judge) = judge.as_mut() else { return };
        for (node, (at, views)) in reports {
            judge.report(at, node, views);
        }
        judge.judge(Instant::now(), &parts.raft.stale())
    };
    for some in judgements.chunks(MAX_JUDGEMENTS) {
        if !propose(parts, some.to_vec()).await {
            return;
        }
    }
}

/// Whether the cluster has agreed. What it has not is judged again.
async fn propose(parts: &Parts, judgements: Vec<Judgement>) -> bool {
    let counts = &parts.health.counts;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at_unix_ms = lockstep_model::duration::millis(since_1970);
    let reason = match parts.raft.write(Command::Judge { at_unix_ms, judgements }).await {
        Ok(Applied::Changed { lines, .. }) => {
            counts.proposals.add(1);
            tracing::debug!("{}", lines.join("; "));
            return true;
        }
        // The services have changed in between.
        Ok(Applied::Unchanged { .. }) => return true,
        Ok(Applied::Refused(refusal)) => refusal.to_string(),
        Err(error) => error.to_string(),
    };
    counts.failed_proposals.add(1);
    tracing::warn!(reason, "verdicts on endpoints were not agreed on (yet)");
    false
}
