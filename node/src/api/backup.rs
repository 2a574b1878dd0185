//! Backup, restore and recovery, as operators ask for them.

use lockstep_proto::admin::v1 as pb;
use lockstep_raft_store::backup::Backup;
use lockstep_raft_store::config::MAX_SNAPSHOT;
use tonic::{Status, Streaming};

use super::admin::{Admin, Streamed};
use super::refuse;

/// Bytes of a message: far below what gRPC allows.
const CHUNK: usize = 1 << 20;

impl Admin {
    pub(super) async fn backup(&self) -> Result<Streamed<pb::ClusterBackupResponse>, Status> {
        let file = self.parts.raft.backup().await.map_err(|e| refuse::raft(&e))?.encode();
        let chunks: Vec<Vec<u8>> = file.chunks(CHUNK).map(<[u8]>::to_vec).collect();
        let messages = chunks.into_iter().map(|data| Ok(pb::ClusterBackupResponse { data }));
        Ok(Box::pin(futures::stream::iter(messages)))
    }

    pub(super) async fn restore(
        &self,
        mut stream: Streaming<pb::ClusterRestoreRequest>,
    ) -> Result<pb::ClusterRestoreResponse, Status> {
        let mut file = Vec::new();
        while let Some(message) = stream.message().await? {
            if file.len() + message.data.len() > MAX_SNAPSHOT {
                return Err(Status::invalid_argument(format!("a backup beyond {MAX_SNAPSHOT} bytes")));
            }
            file.extend_from_slice(&message.data);
        }
        let backup = Backup::decode(&file).map_err(|problem| {
            Status::invalid_argument(format!("not a backup that can be restored: {problem}"))
        })?;
        let (backup_cluster_id, backup_log_index) = (backup.cluster_id.to_vec(), backup.log_index);
        let identity = self.parts.raft.restore(backup).await.map_err(|e| refuse::raft(&e))?;
        Ok(pb::ClusterRestoreResponse {
            cluster_id: identity.cluster_id.to_vec(),
            node_id: identity.node.get(),
            backup_cluster_id,
            backup_log_index,
        })
    }

    pub(super) async fn recover(&self, force: bool) -> Result<pb::ClusterRecoverResponse, Status> {
        if !force {
            return Err(Status::failed_precondition(
                "recovery makes a new cluster of this node alone: what only the others knew is lost, and if they are not \
                 gone for good, groups are served twice. If they are, say --force-new-cluster",
            ));
        }
        let former = self.parts.raft.identity();
        let identity = self.parts.raft.recover().await.map_err(|e| refuse::raft(&e))?;
        Ok(pb::ClusterRecoverResponse {
            cluster_id: identity.cluster_id.to_vec(),
            node_id: identity.node.get(),
            former_cluster_id: former.map(|former| former.cluster_id.to_vec()).unwrap_or_default(),
        })
    }
}
