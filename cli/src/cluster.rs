//! `cluster init`, `join`, `leave`, `status`, `transfer-leader`; `group move`; `node drain`.

mod backup;
mod replication;

use std::net::SocketAddr;

use lockstep_proto::admin::v1 as admin;
use lockstep_proto::inspect::v1 as inspect;
use lockstep_proto::types::v1::NodeRole;
use serde_json::json;

use crate::args::{ClusterCommand, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

pub(crate) async fn run(client: &mut Client, command: ClusterCommand, output: Output) -> Result<(), Failure> {
    match command {
        ClusterCommand::Init => init(client).await,
        ClusterCommand::Join { via, learner } => join(client, via, learner).await,
        ClusterCommand::Leave { node } => leave(client, node).await,
        ClusterCommand::Backup { file } => backup::backup(client, &file).await,
        ClusterCommand::Restore { file } => backup::restore(client, &file).await,
        ClusterCommand::Recover { force_new_cluster } => backup::recover(client, force_new_cluster).await,
        ClusterCommand::Status | ClusterCommand::Members => status(client, output).await,
        ClusterCommand::TransferLeader { node } => {
            let request = admin::TransferLeaderRequest { node: node.clone() };
            client.admin.transfer_leader(request).await?;
            print::text(&format!("leader is now {node}\n"));
            Ok(())
        }
    }
}

pub(crate) async fn move_group(client: &mut Client, group: String, node: String) -> Result<(), Failure> {
    let request = admin::MoveGroupRequest { group: group.clone(), node: node.clone() };
    let admin::MoveGroupResponse { epoch, moved } = client.admin.move_group(request).await?.into_inner();
    let done = if moved { "assigned to" } else { "unchanged, it is with" };
    print::text(&format!("group {group} {done} {node}, epoch {epoch}\n"));
    Ok(())
}

/// Fails if the node owns something still.
pub(crate) async fn drain(client: &mut Client, node: String, draining: bool) -> Result<(), Failure> {
    let request = admin::DrainNodeRequest { node: node.clone(), draining };
    let admin::DrainNodeResponse { changed, owned } = client.admin.drain_node(request).await?.into_inner();
    let done = match (changed, draining) {
        (false, _) => "unchanged",
        (true, true) => "drained",
        (true, false) => "undrained",
    };
    print::text(&format!("node {node} {done}\n"));
    if owned.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "node {node} still owns {}: no other node can serve that and holds its flows (`lockstep group status {}`); it is \
         given away as soon as one does",
        owned.join(", "),
        owned[0]
    )))
}

async fn init(client: &mut Client) -> Result<(), Failure> {
    let answer = client.admin.cluster_init(admin::ClusterInitRequest {}).await?.into_inner();
    print::text(&format!("cluster {} made of {} nodes\n", hex(&answer.cluster_id), answer.nodes.len()));
    Ok(())
}

async fn join(client: &mut Client, via: Vec<SocketAddr>, learner: bool) -> Result<(), Failure> {
    let request = admin::ClusterJoinRequest { via: via.into_iter().map(Into::into).collect(), learner };
    let answer = client.admin.cluster_join(request).await?.into_inner();
    print::text(&format!(
        "node {} of cluster {}, {}; {} voter(s)\n{}",
        answer.node_id,
        hex(&answer.cluster_id),
        if answer.voter { "with a vote" } else { "without a vote" },
        answer.voters,
        line(&answer.advice),
    ));
    Ok(())
}

async fn leave(client: &mut Client, node: Option<String>) -> Result<(), Failure> {
    let request = admin::ClusterLeaveRequest { node: node.unwrap_or_default() };
    let answer = client.admin.cluster_leave(request).await?.into_inner();
    let (name, id, voters) = (&answer.node, answer.node_id, answer.voters);
    print::text(&format!("node {name} ({id}) has left; {voters} voter(s)\n{}", line(&answer.advice)));
    Ok(())
}

fn line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

async fn status(client: &mut Client, output: Output) -> Result<(), Failure> {
    let status = client.admin.cluster_status(admin::ClusterStatusRequest {}).await?.into_inner();
    let replication = client.inspect.sync_status(inspect::SyncStatusRequest {}).await?.into_inner();
    if matches!(output, Output::Json | Output::Yaml) {
        let members: Vec<_> = status
            .members
            .iter()
            .map(|m| {
                json!({"id": m.id, "name": m.name, "role": role(m.role()), "voter": m.voter, "leader": m.leader,
                    "matched_index": m.matched_index})
            })
            .collect();
        let object = json!({
            "cluster_id": hex(&status.cluster_id), "cluster_name": status.cluster_name, "node_id": status.node_id,
            "leader_id": status.leader_id, "term": status.term, "last_log_index": status.last_log_index,
            "applied_index": status.applied_index, "revision": status.revision, "members": members,
            "replication": replication::object(&replication),
        });
        return print::objects(&[object], true, output);
    }
    if status.cluster_id.is_empty() {
        print::text("no cluster yet: run `lockstep cluster init` on one node\n");
        return Ok(());
    }
    print::text(&format!(
        "cluster {} ({}), revision {}, term {}, log {}, applied here {}\n",
        status.cluster_name,
        hex(&status.cluster_id),
        status.revision,
        status.term,
        status.last_log_index,
        status.applied_index
    ));
    let rows: Vec<Vec<String>> = status
        .members
        .iter()
        .map(|m| {
            let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
            let matched = m.matched_index.map_or_else(|| "-".to_owned(), |i| i.to_string());
            vec![
                m.name.clone(),
                m.id.to_string(),
                role(m.role()).to_owned(),
                yes(m.voter),
                yes(m.leader),
                matched,
            ]
        })
        .collect();
    print::table(&["NAME", "ID", "ROLE", "VOTER", "LEADER", "MATCHED"], &rows);
    replication::text(&replication);
    Ok(())
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Dataplane => "dataplane",
        NodeRole::Witness => "witness",
        NodeRole::Unspecified => "unknown",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
