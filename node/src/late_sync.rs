//! The replication service on the cluster listener, which is up before the node knows which cluster it is in.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures::Stream;
use lockstep_proto::sync::v1 as pb;
use lockstep_proto::sync::v1::sync_server::Sync;
use lockstep_sync_transport::Subscriptions;
use tonic::{Request, Response, Status, Streaming};

/// Refuses until the real service is set, once.
#[derive(Clone, Default)]
pub(crate) struct LateSync {
    service: Arc<OnceLock<Subscriptions>>,
}

impl LateSync {
    /// From now on `service` answers.
    pub(crate) fn set(&self, service: Subscriptions) {
        assert!(self.service.set(service).is_ok(), "replication is started once");
    }
}

#[tonic::async_trait]
impl Sync for LateSync {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<pb::Down, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::Up>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let service = self.service.get().ok_or_else(|| {
            Status::unavailable("this node replicates no flows (yet): it is a witness, or starting")
        })?;
        let answer = service.subscribe(request).await?;
        Ok(answer.map(|stream| Box::pin(stream) as Self::SubscribeStream))
    }
}
