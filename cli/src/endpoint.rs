//! `endpoint`: changes one endpoint of a service, and nothing else of it.

use std::net::{IpAddr, SocketAddr};

use lockstep_proto::admin::v1 as admin;
use serde_json::{Value, json};

use crate::args::{EndpointCommand, EndpointName};
use crate::client::Client;
use crate::failure::Failure;
use crate::intent;
use crate::print;

/// How often it begins anew because somebody else changed the intent between reading and writing.
const ATTEMPTS: usize = 5;

pub(crate) async fn run(client: &mut Client, command: EndpointCommand) -> Result<(), Failure> {
    let (name, field, value) = match command {
        EndpointCommand::Drain(name) => (name, "state", json!("drain")),
        EndpointCommand::Enable(name) => (name, "state", json!("active")),
        EndpointCommand::Disable(name) => (name, "state", json!("disabled")),
        EndpointCommand::Weight { name, weight } => (name, "weight", json!(weight)),
    };
    let mut attempt = 1;
    loop {
        match set(client, &name, field, &value).await {
            Err(Failure::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure),
            Ok(lines) => {
                print::lines(&lines);
                return Ok(());
            }
        }
    }
}

async fn set(
    client: &mut Client,
    name: &EndpointName,
    field: &str,
    value: &Value,
) -> Result<Vec<String>, Failure> {
    let request = admin::GetServiceRequest { name: name.service.clone(), stale: false };
    let read = client.admin.get_service(request).await?.into_inner();
    let mut manifest = intent::manifest(&read.manifest)?;
    let endpoints = manifest["spec"]["endpoints"].as_array_mut();
    change(endpoints.map_or(&mut [], Vec::as_mut_slice), name, field, value)?;
    let request = admin::ApplyRequest {
        manifest: manifest.to_string(),
        dry_run: false,
        prune: false,
        expected_revision: Some(read.revision),
    };
    Ok(client.admin.apply(request).await?.into_inner().lines)
}

fn change(endpoints: &mut [Value], name: &EndpointName, field: &str, value: &Value) -> Result<(), Failure> {
    let has: Vec<String> = endpoints.iter().map(shown).collect();
    let mut meant: Vec<&mut Value> =
        endpoints.iter_mut().filter(|each| is_meant(each, &name.address)).collect();
    match meant.as_mut_slice() {
        [one] => one[field] = value.clone(),
        [] => {
            let (service, address) = (&name.service, &name.address);
            return Err(Failure::NotFound(format!(
                "service/{service} has no endpoint {address}; it has {}",
                has.join(", ")
            )));
        }
        several => {
            let all: Vec<String> = several.iter().map(|each| shown(each)).collect();
            let address = &name.address;
            return Err(Failure::Usage(format!(
                "{address} is several endpoints: {}; allowed: one with its port",
                all.join(", ")
            )));
        }
    }
    Ok(())
}

/// Address and port, or the address alone of one whose port is the client's.
fn shown(endpoint: &Value) -> String {
    let address = endpoint["address"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let port = endpoint["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    match (address, port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => endpoint.to_string(),
    }
}

fn is_meant(endpoint: &Value, address: &str) -> bool {
    let alone = endpoint["address"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    match (address.parse::<SocketAddr>(), address.parse::<IpAddr>()) {
        (Ok(both), _) => shown(endpoint) == both.to_string(),
        (_, Ok(address)) => alone == Some(address),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Vec<Value> {
        ["10.0.0.11:80", "10.0.0.11:81", "10.0.0.12:80", "[2001:db8::1]:80"]
            .map(|each| {
                let each: SocketAddr = each.parse().unwrap();
                json!({"address": each.ip(), "port": each.port(), "weight": 1, "state": "active"})
            })
            .to_vec()
    }

    fn set(address: &str) -> Result<Vec<usize>, Failure> {
        let name = EndpointName { service: "web".to_owned(), address: address.to_owned() };
        let (before, mut after) = (endpoints(), endpoints());
        change(&mut after, &name, "state", &json!("drain"))?;
        let changed = (0..after.len()).filter(|i| after[*i] != before[*i]).collect::<Vec<_>>();
        assert!(changed.iter().all(|i| after[*i]["state"] == "drain" && after[*i]["weight"] == 1));
        Ok(changed)
    }

    #[test]
    fn one_endpoint_is_changed_and_no_other() {
        assert_eq!(set("10.0.0.11:81").unwrap(), [1]);
        assert_eq!(set("10.0.0.12").unwrap(), [2]);
        assert_eq!(set("2001:db8:0::1").unwrap(), [3]);
        assert_eq!(set("[2001:db8::1]:80").unwrap(), [3]);
    }

    #[test]
    fn what_is_no_single_endpoint_is_refused() {
        assert!(
            matches!(set("10.0.0.11"), Err(Failure::Usage(why)) if why.contains("10.0.0.11:80, 10.0.0.11:81"))
        );
        assert!(matches!(set("10.0.0.12:81"), Err(Failure::NotFound(why)) if why.contains("10.0.0.12:80")));
        assert!(matches!(set("web-1"), Err(Failure::NotFound(_))));
    }
}
