//! Tells the leader what this node finds: at every change of opinion, and twice an interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_model::duration::millis;
use lockstep_model::ids::NodeId;
use lockstep_proto::health::v1 as pb;
use lockstep_proto::health::v1::health_client::HealthClient;
use tonic::transport::Channel;

use super::judge::Reported;
use crate::parts::Parts;
use crate::tls::Tls;

/// Bounds of the time between two reports, for checks of very short and very long intervals.
const MIN_PERIOD: Duration = Duration::from_millis(50);
const MAX_PERIOD: Duration = Duration::from_millis(500);
/// Changes that come together go together.
const GATHER: Duration = Duration::from_millis(10);
/// A leader that does not answer by then is not waited for: the next report says everything again.
const ANSWER: Duration = Duration::from_secs(1);

/// Runs for as long as the node does. A witness has nothing to report.
pub(super) async fn run(parts: Arc<Parts>, me: NodeId, tls: Tls) {
    if parts.dataplane.is_none() {
        return;
    }
    let table = &parts.health.table;
    let mut leader = Leader { parts: parts.clone(), tls, me, connected: None };
    loop {
        let period = table.shortest_interval().map(|interval| interval / 2);
        let period = period.unwrap_or(MAX_PERIOD).clamp(MIN_PERIOD, MAX_PERIOD);
        // Cancel-safe: a notification that is not taken here is taken in the next round.
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = table.changed.notified() => tokio::time::sleep(GATHER).await,
        }
        let now = Instant::now();
        if let Some(groups) = table.look_around(now) {
            let groups: Vec<String> = groups.iter().map(|group| parts.group_name(*group)).collect();
            if groups.is_empty() {
                tracing::info!("this node reaches endpoints again that only it found down");
            } else {
                tracing::warn!(
                    ?groups,
                    "only this node does not reach most endpoints: it reports itself unfit"
                );
            }
        }
        let views = table.report(now);
        if table.shortest_interval().is_none() {
            continue;
        }
        let counts = &parts.health.counts;
        match leader.tell(views).await {
            Ok(()) => counts.reports.add(1),
            Err(reason) => {
                counts.failed_reports.add(1);
                tracing::debug!(reason, "the leader was not told of the endpoints' health");
            }
        }
    }
}

/// The way to whoever leads.
struct Leader {
    parts: Arc<Parts>,
    tls: Tls,
    me: NodeId,
    connected: Option<(NodeId, HealthClient<Channel>)>,
}

impl Leader {
    async fn tell(&mut self, views: Vec<Reported>) -> Result<(), String> {
        let leader = self.parts.raft.leader().ok_or("no leader is known")?;
        if leader == self.me {
            let accepted = self.parts.health.accept(self.me, views);
            return if accepted { Ok(()) } else { Err("this node does not lead (yet)".to_owned()) };
        }
        let mut client = match self.connected.take() {
            Some((to, client)) if to == leader => client,
            _ => self.connect(leader)?,
        };
        let identity = self.parts.raft.identity().ok_or("this node belongs to no cluster")?;
        let request = pb::ReportRequest {
            cluster_id: identity.cluster_id.to_vec(),
            sender: self.me.get(),
            target: leader.get(),
            views: views.iter().map(view).collect(),
        };
        match tokio::time::timeout(ANSWER, client.report(request)).await {
            Ok(Ok(_)) => {
                self.connected = Some((leader, client));
                Ok(())
            }
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    fn connect(&self, leader: NodeId) -> Result<HealthClient<Channel>, String> {
        let state = self.parts.raft.stale();
        let spec = state.nodes.get(&leader).ok_or_else(|| format!("node {leader} is not registered"))?;
        let endpoint = self.tls.endpoint(spec.cluster_address).map_err(|e| e.to_string())?;
        Ok(HealthClient::new(endpoint.connect_lazy()))
    }
}

fn view(reported: &Reported) -> pb::View {
    let opinion = match reported.opinion {
        Some(true) => pb::Opinion::Up,
        Some(false) => pb::Opinion::Down,
        None => pb::Opinion::Undecided,
    };
    pb::View {
        endpoint: reported.endpoint.get(),
        age_ms: millis(reported.age),
        opinion: opinion.into(),
        failure: reported.failure.as_ref().map(Into::into),
    }
}
