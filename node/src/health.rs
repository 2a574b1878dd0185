//! Health of endpoints: every data-plane node probes each of them and tells the leader what it finds; the leader
//! proposes a verdict where a majority contradicts the one that the cluster holds (`docs/health.md`).
//!
//! ```text
//! agreed state ─► target ─► prober (a task per endpoint) ─► view (rise, fall) ─► table ─► report ──RPC──► judge
//!      ▲                                                                                         (on the leader) │
//!      └──────────────────────────────── Raft ◄──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! All of it runs on a thread of its own, so that neither thousands of probes nor TLS handshakes hold up an API,
//! the replication of flows, or Raft.

mod counts;
mod judge;
pub(crate) mod metrics;
mod probe;
mod report;
mod run;
mod service;
mod table;
mod target;
mod verdicts;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use lockstep_model::ids::{EndpointId, GroupId, NodeId};

use self::counts::Counts;
use self::judge::{Judge, Reported};
use self::table::Table;
use crate::parts::Parts;
use crate::tls::Tls;

pub(crate) use self::service::Service;
pub(crate) use self::view::View;

/// The last report of each node, and when it came.
type Inbox = BTreeMap<NodeId, (Instant, Vec<Reported>)>;

/// What the rest of the daemon sees of this.
#[derive(Default)]
pub(crate) struct Health {
    table: Table,
    /// While this node leads: what each node reported last and is not judged yet. Locked for moments only: reports
    /// come in on Raft's own runtime.
    inbox: Mutex<Option<Inbox>>,
    /// While this node leads.
    judge: Mutex<Option<Judge>>,
    /// A report has come in.
    reported: tokio::sync::Notify,
    counts: Counts,
}

/// Starts probing, reporting and judging, for as long as the process runs.
pub(crate) fn start(parts: &Arc<Parts>, node: NodeId, tls: &Tls) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime of health checks cannot be started")?;
    let (parts, tls) = (parts.clone(), tls.clone());
    let work = async move {
        tokio::join!(
            run::probe(parts.clone()),
            report::run(parts.clone(), node, tls),
            verdicts::run(parts.clone()),
        )
    };
    std::thread::Builder::new()
        .name("health".into())
        .spawn(move || runtime.block_on(work))
        .context("the thread of health checks cannot be started")?;
    Ok(())
}

impl Health {
    /// Groups most of whose endpoints only this node finds down: it is not the endpoints that fail.
    pub(crate) fn cut_off(&self) -> BTreeSet<GroupId> {
        self.table.cut_off()
    }

    /// What this node finds of each endpoint that it probes.
    pub(crate) fn views(&self) -> BTreeMap<EndpointId, View> {
        self.table.views()
    }

    /// On the leader: what the nodes report of an endpoint.
    pub(crate) fn opinions(&self, endpoint: EndpointId) -> BTreeMap<NodeId, Option<bool>> {
        let judge = self.judge.lock().expect("no holder panics");
        judge.as_ref().map(|judge| judge.opinions(endpoint)).unwrap_or_default()
    }

    /// Counters by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        self.counts.read()
    }

    /// Takes in a report, if this node leads.
    fn accept(&self, node: NodeId, views: Vec<Reported>) -> bool {
        let mut inbox = self.inbox.lock().expect("no holder panics");
        let Some(inbox) = inbox.as_mut() else { return false };
        inbox.insert(node, (Instant::now(), views));
        self.reported.notify_one();
        true
    }
}
