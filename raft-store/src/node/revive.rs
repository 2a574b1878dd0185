//! A full disk stops the store: nobody knows how much of what was being written is there. When there is space again the
//! store is read anew, in the same process, so that the node goes on where it stopped. It was never more than a
//! member that does not answer.
//!
//! ```text
//!   runs ──(no space)──► stopped, full ──(RESUME_FREE bytes are free)──► reads its log ──► runs
//!     └──(any other error, shutdown)──► stopped, for good
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::TokioRuntime;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;

use super::Inner;
use crate::config::{RESUME_FREE, RESUME_LOOK};
use crate::error::StoreError;
use crate::log_store::Told;
use crate::metrics::Metrics;
use crate::replica::Replica;
use crate::types::Types;

/// A data directory without space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: the disk is full: {free_bytes} bytes free; this node acknowledges nothing until {RESUME_FREE} are, and goes \
     on by itself then",
    path.display()
)]
pub struct DiskFull {
    /// The data directory.
    pub path: PathBuf,
    /// Bytes free when it was looked at last.
    pub free_bytes: u64,
}

impl Inner {
    /// Publishes how `replica`, and whatever follows it, is doing, until that has stopped for good.
    pub(super) async fn attend(self: Arc<Self>, mut replica: Arc<Replica<TokioRuntime>>) {
        loop {
            self.follow(replica.raft.metrics()).await;
            if !replica.was_full() {
                return;
            }
            match self.wait_for_space(&replica).await {
                Ok(Some(next)) => replica = next,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be opened again: this node takes no part until it is restarted");
                    return;
                }
            }
        }
    }

    /// Copies Raft's metrics to where anyone can wait for them, until Raft ends.
    async fn follow(
        &self,
        mut raft: WatchReceiverOf<Types<TokioRuntime>, openraft::RaftMetrics<Types<TokioRuntime>>>,
    ) {
        loop {
            let now = Metrics::of::<TokioRuntime>(&raft.borrow_watched());
            let ended = now.stopped.is_some();
            self.metrics.send_if_modified(|old| {
                let changed = *old != now;
                *old = now;
                changed
            });
            if ended || raft.changed().await.is_err() {
                return;
            }
        }
    }

    /// The replica that goes on once there is space; `None`: the node has been shut down.
    async fn wait_for_space(
        self: &Arc<Self>,
        stopped: &Replica<TokioRuntime>,
    ) -> Result<Option<Arc<Replica<TokioRuntime>>>, StoreError> {
        let told = stopped.close().await;
        self.store_counts.filled.fetch_add(1, Ordering::Relaxed);
        let state = self.disk();
        tracing::error!(reason = "disk_full", %state, "the store has stopped; the kernel goes on forwarding");
        self.full.send_replace(Some(state));
        loop {
            // Nobody shuts the node down while this is held.
            let forming = self.forming.lock().await;
            if *self.ended.borrow() {
                return Ok(None);
            }
            if self.free()? >= RESUME_FREE {
                match self.open_again(&told, stopped).await {
                    Err(error) if error.kind() == "disk_full" => {}
                    opened => return opened.map(Some),
                }
            }
            drop(forming);
            self.full.send_replace(Some(self.disk()));
            tokio::time::sleep(RESUME_LOOK).await;
        }
    }

    async fn open_again(
        self: &Arc<Self>,
        told: &Told,
        stopped: &Replica<TokioRuntime>,
    ) -> Result<Arc<Replica<TokioRuntime>>, StoreError> {
        let (pool, observer, published) = (self.pool.clone(), self.observer.clone(), self.published.clone());
        let (options, identity) = (self.config.options, stopped.identity().clone());
        let next = Replica::open_after(told, options, identity, &self.dir, pool, observer, published).await?;
        let next = Arc::new(next);
        self.member.send_replace(Some(next.clone()));
        self.full.send_replace(None);
        self.store_counts.resumed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            reason = "disk_full",
            "there is space again: the store has been read anew, and goes on"
        );
        Ok(next)
    }

    /// The disk as it is.
    pub(crate) fn disk(&self) -> DiskFull {
        // A disk that cannot even be asked has, as far as anyone knows, nothing to give.
        DiskFull { path: self.config.data_dir.clone(), free_bytes: self.free().unwrap_or(0) }
    }

    fn free(&self) -> Result<u64, StoreError> {
        let path = &self.config.data_dir;
        self.dir.fs().free(path).map_err(StoreError::io(path, "ask for the free space of"))
    }
}
