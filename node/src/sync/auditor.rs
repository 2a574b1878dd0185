//! The thread that reads the kernel's table for digests, and computes and compares them: never in the way of what is
//! replicated, and at a bounded share of a processor.

use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};

use lockstep_model::ids::NodeId;
use lockstep_sync_core::audit::{CompareJob, DigestJob, Lister, Listing, RoundId, Seed, Suspect};
use tokio::sync::mpsc;

use super::driver::Done;
use super::table::Table;

/// Entries of a page, of which half are replies.
const PAGE: usize = 4096;

/// After each page the thread sleeps as long as the page took, at least this long: half a processor at most while it reads,
/// which for a million flows is a second or two of every eight.
const PAUSE: Duration = Duration::from_micros(500);

/// What it is asked to do; the core asks for little at a time.
pub(super) enum AuditJob {
    /// For this node's own round, or for a peer's.
    List {
        peer: Option<NodeId>,
        round: RoundId,
        seed: Seed,
        suspects: Vec<Suspect>,
    },
    Digest(DigestJob),
    Compare(CompareJob),
}

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start<T: Table>(
    table: Arc<T>,
    done: mpsc::UnboundedSender<Done>,
) -> std::io::Result<blocking::Sender<AuditJob>> {
    let (jobs, queue) = blocking::channel();
    let run = move || {
        while let Ok(job) = queue.recv() {
            let finished = match job {
                AuditJob::List { peer, round, seed, suspects } => {
                    let result = list(&*table, peer.is_none(), Lister::new(seed, suspects));
                    Done::Listed { peer, round, result }
                }
                AuditJob::Digest(job) => {
                    Done::Digest { stream: job.stream, round: job.round, digest: job.compute() }
                }
                AuditJob::Compare(job) => {
                    Done::Compared { stream: job.stream, round: job.round, comparison: job.compute() }
                }
            };
            if done.send(finished).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("flow-auditor".into()).spawn(run)?;
    Ok(jobs)
}

/// An owner lists what its standbys were told; a standby all it holds, whatever its own policy says by now, but not what it
/// holds half of: the owner will say it again.
fn list<T: Table>(table: &T, owner: bool, mut lister: Lister) -> anyhow::Result<Listing> {
    let mut cursor = None;
    loop {
        let begun = Instant::now();
        let page = table.audit_page(cursor, PAGE, !owner)?;
        for held in &page.held {
            if !owner || (held.replicated && !held.early) {
                lister.meet(&held.record);
            } else if held.replicated {
                lister.meet_unsure(held.record.group, held.record.key);
            }
        }
        page.dead.iter().for_each(|(group, key)| lister.meet_unsure(*group, *key));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(lister.finish());
        }
        std::thread::sleep(begun.elapsed().max(PAUSE));
    }
}
