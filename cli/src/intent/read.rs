//! Objects as the server has them: their manifest documents, with what is observed under `status`.

mod health;

use lockstep_model::limits::PORTS_OF_A_BLOCK;
use lockstep_proto::admin::v1 as admin;
use lockstep_proto::types::v1::{PortBlocks, SocketAddress};
use serde_json::{Value, json};

use crate::args::Kind;
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

pub(super) async fn objects(
    client: &mut Client,
    kind: Kind,
    name: Option<String>,
) -> Result<Vec<Value>, Failure> {
    match kind {
        Kind::Group => groups(client, name).await,
        Kind::Service => services(client, name).await,
        Kind::SnatRule => snat_rules(client, name).await,
        Kind::Node => nodes(client, name).await,
        Kind::Cluster => cluster(client).await,
        Kind::Endpoint => Ok(endpoints(&services(client, name).await?)),
    }
}

async fn groups(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => {
            let one = client.admin.get_group(admin::GetGroupRequest { name, stale }).await?.into_inner();
            answers.push((one.manifest, one.group, one.port_blocks));
        }
        None => {
            let mut all = client.admin.list_groups(admin::ListGroupsRequest { stale }).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push((one.manifest, one.group, one.port_blocks));
            }
        }
    }
    let nodes = nodes(client, None).await?;
    let name_of = |id: u64| {
        let node = nodes.iter().find(|node| node["status"]["id"] == id);
        node.map_or_else(|| json!(id.to_string()), |node| node["name"].clone())
    };
    answers
        .into_iter()
        .map(|(manifest, group, port_blocks)| {
            let group = group.unwrap_or_default();
            let mut status = json!({"id": group.id, "revision": group.revision});
            if let Some(assignment) = group.assignment {
                status["owner"] = name_of(assignment.node);
                status["epoch"] = json!(assignment.epoch);
            }
            if !port_blocks.is_empty() {
                status["port_blocks"] = port_blocks.iter().map(blocks).collect();
            }
            with_status(&manifest, status)
        })
        .collect()
}

async fn services(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => {
            let one = client.admin.get_service(admin::GetServiceRequest { name, stale }).await?.into_inner();
            answers.push((one.manifest, one.service));
        }
        None => {
            let mut all =
                client.admin.list_services(admin::ListServicesRequest { stale }).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push((one.manifest, one.service));
            }
        }
    }
    let nodes = nodes(client, None).await?;
    let views = health::views(client).await?;
    answers
        .into_iter()
        .map(|(manifest, service)| {
            let service = service.unwrap_or_default();
            let mut status = json!({"id": service.id, "revision": service.revision});
            status["endpoints"] = health::of_service(&service, &views, &nodes);
            with_status(&manifest, status)
        })
        .collect()
}

/// The endpoints of services as objects of their own. `NAME` is not unique where an endpoint serves twice: it
/// stands behind its service's.
fn endpoints(services: &[Value]) -> Vec<Value> {
    let each = services.iter().flat_map(|service| {
        let endpoints = service["spec"]["endpoints"].as_array().into_iter().flatten();
        let status = service["status"]["endpoints"].as_array().into_iter().flatten();
        endpoints.zip(status).map(|(spec, status)| {
            let name = format!("{}/{}", text(&service["name"]), text(&status["address"]));
            json!({
                "apiVersion": "lockstep/v1", "kind": "Endpoint", "name": name,
                "spec": spec, "status": status,
            })
        })
    });
    each.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn snat_rules(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => {
            let request = admin::GetSnatRuleRequest { name, stale };
            let one = client.admin.get_snat_rule(request).await?.into_inner();
            answers.push((one.manifest, one.snat_rule));
        }
        None => {
            let request = admin::ListSnatRulesRequest { stale };
            let mut all = client.admin.list_snat_rules(request).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push((one.manifest, one.snat_rule));
            }
        }
    }
    answers
        .into_iter()
        .map(|(manifest, rule)| {
            let rule = rule.unwrap_or_default();
            with_status(&manifest, json!({"id": rule.id, "revision": rule.revision}))
        })
        .collect()
}

async fn nodes(client: &mut Client, name: Option<String>) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let mut answers = Vec::new();
    match name {
        Some(name) => answers
            .push(client.admin.get_node(admin::GetNodeRequest { name, stale }).await?.into_inner().node),
        None => {
            let mut all = client.admin.list_nodes(admin::ListNodesRequest { stale }).await?.into_inner();
            while let Some(one) = all.message().await? {
                answers.push(one.node);
            }
        }
    }
    let socket = |address: Option<SocketAddress>| print::socket(&address.unwrap_or_default());
    Ok(answers
        .into_iter()
        .map(|node| {
            let node = node.unwrap_or_default();
            let spec = node.spec.unwrap_or_default();
            let role = match spec.role() {
                lockstep_proto::types::v1::NodeRole::Witness => "witness",
                _ => "dataplane",
            };
            json!({
                "apiVersion": "lockstep/v1", "kind": "Node", "name": spec.name,
                "spec": {"role": role, "cluster_address": socket(spec.cluster_address), "lease_address": socket(spec.lease_address)},
                "status": {"id": node.id},
            })
        })
        .collect())
}

async fn cluster(client: &mut Client) -> Result<Vec<Value>, Failure> {
    let stale = client.stale;
    let answer = client.admin.get_cluster(admin::GetClusterRequest { stale }).await?.into_inner();
    Ok(vec![with_status(&answer.manifest, json!({"revision": answer.revision}))?])
}

fn with_status(manifest: &str, status: Value) -> Result<Value, Failure> {
    let mut object = self::manifest(manifest)?;
    object["status"] = status;
    Ok(object)
}

/// A manifest as the server answers with it.
pub(crate) fn manifest(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::Refused(format!("the server's answer is not JSON: {e}")))
}

/// The source ports that an address has, in ranges.
fn blocks(of: &PortBlocks) -> Value {
    let first_port = |block: u32| block * PORTS_OF_A_BLOCK;
    let mut ranges = Vec::new();
    let mut block = 0;
    while block < u64::BITS {
        let run = (of.blocks >> block).trailing_ones();
        if run > 0 {
            ranges.push(format!("{}-{}", first_port(block), first_port(block + run) - 1));
        }
        block += run.max(1);
    }
    let count = of.blocks.count_ones();
    json!({"address": print::address(&of.address), "blocks": count, "ports": ranges})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_blocks_are_shown_as_ranges_of_ports() {
        let blocks_of = |bits: u64| blocks(&PortBlocks { address: vec![192, 0, 2, 1], blocks: bits });
        let shown = |bits| blocks_of(bits)["ports"].to_string();
        assert_eq!(shown(0b1010), "[\"1024-2047\",\"3072-4095\"]");
        assert_eq!(shown(0xf << 32), "[\"32768-36863\"]");
        assert_eq!(shown(!1), "[\"1024-65535\"]");
        assert_eq!(blocks_of(0b1110)["blocks"], 3);
        assert_eq!(blocks_of(0b1110)["address"], "192.0.2.1");
    }
}
