//! Keeps one task per endpoint that probes it for as long as the agreed state says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_model::health::{Failure, FailureKind};
use lockstep_model::ids::EndpointId;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::Health;
use super::probe::Prober;
use super::target::{Target, targets};
use crate::parts::Parts;

/// Probes at a time: each has a socket. With a timeout of half a second, and every endpoint silent, this is enough
/// for 8000 a second. More wait, and are counted as late.
const MAX_AT_ONCE: u64 = 4096;
/// Within this a new endpoint is probed for the first time: soon, but not a thousand of them at once.
const FIRST: Duration = Duration::from_millis(100);
/// Intervals are a tenth longer or shorter by chance, half of it each way, so that probes of many nodes and endpoints
/// do not fall into step.
const JITTER: f64 = 0.1;
/// The same complaint is not logged more often.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(10);

struct Running {
    target: Target,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs for as long as the node does. A witness probes nothing, but logs verdicts as the others do.
pub(super) async fn probe(parts: Arc<Parts>) {
    let carries = parts.dataplane.is_some();
    let permits = Arc::new(Semaphore::new(at_once()));
    let mut running: BTreeMap<EndpointId, Running> = BTreeMap::new();
    let mut known: Option<BTreeMap<EndpointId, Target>> = None;
    let mut states = parts.raft.watch();
    loop {
        let state = states.borrow_and_update().state.clone();
        let wanted = targets(&state);
        if known.as_ref() != Some(&wanted) {
            tell(&parts, known.as_ref(), &wanted);
            if carries {
                parts.health.table.set(&wanted);
                running.retain(|id, running| wanted.get(id).is_some_and(|w| w.asks_as(&running.target)));
                for (id, target) in &wanted {
                    running.entry(*id).or_insert_with(|| {
                        let task =
                            again_and_again(parts.health.clone(), permits.clone(), *id, target.clone());
                        Running { target: target.clone(), task: tokio::spawn(task).abort_handle() }
                    });
                }
            }
            known = Some(wanted);
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// As many as the limit on open files leaves room for, which is raised as far as it may be.
fn at_once() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let at_once = match limit {
        Ok(files) => (files / 2).clamp(1, MAX_AT_ONCE),
        Err(error) => {
            tracing::warn!(%error, "the limit on open files cannot be raised");
            256
        }
    };
    at_once as usize
}

/// Logs and counts verdicts that are others now. What was agreed before this start is no news.
fn tell(parts: &Parts, before: Option<&BTreeMap<EndpointId, Target>>, now: &BTreeMap<EndpointId, Target>) {
    let Some(before) = before else { return };
    let state = parts.raft.stale();
    for (id, target) in now {
        let Some(old) = before.get(id).filter(|old| old.verdict != target.verdict) else { continue };
        let verdict = state.services.get(&target.service).and_then(|service| service.verdicts.get(id));
        let nodes: Vec<&str> = verdict
            .iter()
            .flat_map(|verdict| &verdict.nodes)
            .filter_map(|node| state.nodes.get(node))
            .map(|node| node.name.as_str())
            .collect();
        let (service, endpoint) = (&target.name, target.address);
        match target.verdict {
            Some(false) => {
                parts.health.counts.went_down.add(1);
                let failure = verdict.and_then(|verdict| verdict.failure);
                let failure = failure.map(|f| f.to_string()).unwrap_or_default();
                tracing::warn!(%service, %endpoint, failure, ?nodes, "endpoint down: it gets no new flows");
            }
            // That a new one is up is what everybody took it for.
            Some(true) if old.verdict.is_none() => {
                tracing::debug!(%service, %endpoint, ?nodes, "endpoint up")
            }
            Some(true) => {
                parts.health.counts.went_up.add(1);
                tracing::info!(%service, %endpoint, ?nodes, "endpoint up again");
            }
            None => {}
        }
    }
}

/// Probes one endpoint until it is aborted.
async fn again_and_again(health: Arc<Health>, permits: Arc<Semaphore>, id: EndpointId, target: Target) {
    let interval = target.check.interval;
    let mut prober = Prober::new(target.to, target.check.clone());
    // Those that were judged before are as they were: the cluster waits for contradiction only.
    let first = if target.verdict.is_none() { FIRST } else { interval };
    let mut due = Instant::now() + first.mul_f64(rand::random());
    let mut complained: Option<Instant> = None;
    loop {
        tokio::time::sleep_until(due.into()).await;
        let permit = permits.acquire().await.expect("nobody closes it");
        if due.elapsed() > interval / 2 {
            health.counts.late.add(1);
        }
        let outcome = prober.probe().await;
        drop(permit);
        let now = Instant::now();
        health.counts.probed(outcome);
        if let Err(failure @ Failure { kind: FailureKind::Local, .. }) = outcome
            && complained.is_none_or(|at| now.duration_since(at) > COMPLAIN_AGAIN)
        {
            complained = Some(now);
            tracing::error!(service = %target.name, endpoint = %target.address, %failure, "this node cannot probe an endpoint: it has no say in its health");
        }
        if let Some(up) = health.table.result(now, id, outcome) {
            let failure = outcome.err().map(|failure| failure.to_string()).unwrap_or_default();
            let count = if up { &health.counts.found_up } else { &health.counts.found_down };
            count.add(1);
            tracing::info!(service = %target.name, endpoint = %target.address, up, failure, "this node finds an endpoint in another health");
        }
        // What is late is not made up for.
        due = (due + interval.mul_f64(1.0 + JITTER * (rand::random::<f64>() - 0.5))).max(now);
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::ids::{GroupId, ServiceId};
    use lockstep_model::intent::{AllDown, HealthCheck, Probe};
    use tokio::net::TcpListener;

    use super::*;

    /// Far more than everything below takes.
    const LIMIT: Duration = Duration::from_secs(20);

    async fn wait_for(health: &Health, id: EndpointId, opinion: Option<bool>) {
        let reached = async {
            while health.views().get(&id).and_then(|view| view.opinion) != opinion {
                health.table.changed.notified().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.expect("the opinion is formed");
    }

    #[tokio::test]
    async fn an_endpoint_that_stops_listening_is_found_down_and_up_when_it_listens_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (interval, timeout) = (Duration::from_millis(100), Duration::from_millis(100));
        let check = HealthCheck {
            probe: Probe::Tcp,
            port: 0,
            interval,
            timeout,
            rise: 2,
            fall: 2,
            all_down: AllDown::ServeNone,
        };
        let target = Target {
            service: ServiceId(1),
            name: "web".into(),
            group: GroupId(2),
            address: to,
            to,
            check: Arc::new(check),
            verdict: None,
        };
        let (health, id) = (Arc::new(Health::default()), EndpointId(3));
        health.table.set(&BTreeMap::from([(id, target.clone())]));
        let task = again_and_again(health.clone(), Arc::new(Semaphore::new(1)), id, target);
        let running = tokio::spawn(task);
        wait_for(&health, id, Some(true)).await;
        drop(listener);
        wait_for(&health, id, Some(false)).await;
        let reported = health.table.report(Instant::now());
        assert_eq!(reported[0].failure, Some(Failure::of(FailureKind::Refused)));
        let _listener = TcpListener::bind(to).await.unwrap();
        wait_for(&health, id, Some(true)).await;
        running.abort();
        health.table.set(&BTreeMap::new());
        assert!(health.views().is_empty() && health.table.shortest_interval().is_none(), "nothing stays");
        let count = |name: &str| {
            let counters = health.counters();
            counters.into_iter().find(|(counter, _)| counter == name).map(|(_, value)| value)
        };
        assert_eq!((count("found_up_here"), count("found_down_here")), (Some(2), Some(1)));
        assert!(count("probes_failed_refused") >= Some(2), "{:?}", health.counters());
    }
}
