//! A node's gRPC interface, asked from within its namespace.

use std::time::Duration;

use anyhow::Context;
use lockstep_proto::admin::v1::admin_client::AdminClient;
use lockstep_proto::admin::v1::{ClusterStatusRequest, ClusterStatusResponse, MoveGroupRequest};
use lockstep_proto::inspect::v1::inspect_client::InspectClient;
use lockstep_proto::inspect::v1::{
    CountersRequest, Failover, FailoversRequest, GroupStatus, GroupStatusRequest, NodeStatusRequest,
    NodeStatusResponse,
};
use tonic::transport::{Channel, Endpoint};

use crate::namespace::Handle;

const ADDRESS: &str = "http://127.0.0.1:7443";
const CONNECT: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(2);

/// What the node at `namespace` says of the cluster.
pub fn cluster_status(namespace: &Handle) -> anyhow::Result<ClusterStatusResponse> {
    ask(namespace, async |channel| {
        Ok(AdminClient::new(channel).cluster_status(ClusterStatusRequest {}).await?.into_inner())
    })
}

/// What it says of a group.
pub fn group_status(namespace: &Handle, name: &str) -> anyhow::Result<GroupStatus> {
    let found = groups(namespace)?.into_iter().find(|group| group.name == name);
    found.with_context(|| format!("no group {name}"))
}

/// What it says of all groups.
pub fn groups(namespace: &Handle) -> anyhow::Result<Vec<GroupStatus>> {
    ask(namespace, async |channel| {
        let request = GroupStatusRequest { name: String::new() };
        Ok(InspectClient::new(channel).group_status(request).await?.into_inner().groups)
    })
}

/// What it says of itself.
pub fn node_status(namespace: &Handle) -> anyhow::Result<NodeStatusResponse> {
    ask(namespace, async |channel| {
        Ok(InspectClient::new(channel).node_status(NodeStatusRequest {}).await?.into_inner())
    })
}

/// The failovers it saw.
pub fn failovers(namespace: &Handle) -> anyhow::Result<Vec<Failover>> {
    ask(namespace, async |channel| {
        Ok(InspectClient::new(channel).failovers(FailoversRequest {}).await?.into_inner().failovers)
    })
}

/// Asks it to give a group to the node of this name; whether that had it already is an error.
pub fn move_group(namespace: &Handle, group: &str, node: &str) -> anyhow::Result<()> {
    let request = MoveGroupRequest { group: group.to_owned(), node: node.to_owned() };
    ask(namespace, async |channel| {
        let answer = AdminClient::new(channel).move_group(request).await?.into_inner();
        anyhow::ensure!(answer.moved, "{group} was with {node} already");
        Ok(())
    })
}

/// One of its counters; zero when it has none of that name.
pub fn counter(namespace: &Handle, name: &str) -> anyhow::Result<u64> {
    ask(namespace, async |channel| {
        let counters = InspectClient::new(channel).counters(CountersRequest {}).await?.into_inner().counters;
        Ok(counters.iter().filter(|c| c.name == name).map(|c| c.value).sum())
    })
}

/// Runs one call on a thread in the namespace, with a connection of its own: a node that was paused or restarted
/// in between leaves nothing stale.
pub fn ask<T: Send>(
    namespace: &Handle,
    call: impl AsyncFnOnce(Channel) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    ask_at(namespace, Endpoint::from_static(ADDRESS), call)
}

/// As [`ask`], of any server.
pub fn ask_at<T: Send>(
    namespace: &Handle,
    server: Endpoint,
    call: impl AsyncFnOnce(Channel) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start an async runtime")?;
        runtime.block_on(async {
            let uri = server.uri().to_string();
            let channel = server
                .connect_timeout(CONNECT)
                .timeout(ANSWER)
                .connect()
                .await
                .with_context(|| format!("{}: {uri} is not reachable", namespace.name()))?;
            call(channel).await
        })
    })
}
