//! Replication on the cluster listener, which is up before the node knows which cluster it is in: says where the service
//! itself listens, and serves nodes of a version that does not ask.

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
    real: Arc<OnceLock<Real>>,
}

struct Real {
    service: Subscriptions,
    port: u16,
}

impl LateSync {
    /// From now on `service` answers, which listens on `port` as well.
    pub(crate) fn set(&self, service: Subscriptions, port: u16) {
        assert!(self.real.set(Real { service, port }).is_ok(), "replication is started once");
    }

    fn real(&self) -> Result<&Real, Status> {
        self.real.get().ok_or_else(|| {
            Status::unavailable("this node replicates no flows (yet): it is a witness, or starting")
        })
    }
}

#[tonic::async_trait]
impl Sync for LateSync {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<pb::Down, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::Up>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let answer = self.real()?.service.subscribe(request).await?;
        Ok(answer.map(|stream| Box::pin(stream) as Self::SubscribeStream))
    }

    async fn locate(&self, _: Request<pb::LocateRequest>) -> Result<Response<pb::LocateResponse>, Status> {
        Ok(Response::new(pb::LocateResponse { port: self.real()?.port.into() }))
    }
}
