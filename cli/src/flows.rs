//! `flows`.

use std::net::{IpAddr, SocketAddr};

use lockstep_proto::inspect::v1::{Flow, FlowFilter, ListFlowsRequest};
use lockstep_proto::types::v1 as types;
use serde_json::{Value, json};

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

pub(crate) async fn flows(
    client: &mut Client,
    filters: &[String],
    limit: u64,
    output: Output,
) -> Result<(), Failure> {
    let request = ListFlowsRequest { filter: Some(filter(filters)?), limit };
    let mut pages = client.inspect.list_flows(request).await?.into_inner();
    let mut objects = Vec::new();
    while let Some(page) = pages.message().await? {
        objects.extend(page.flows.iter().map(object));
    }
    // The kernel's hash order differs from node to node: sort, so that two nodes can be compared.
    objects.sort_by_cached_key(|o| format!("{} {} {}", o["service"], o["protocol"], o["client"]));
    if matches!(output, Output::Json | Output::Yaml) {
        return print::objects(&objects, false, output);
    }
    let wide = output == Output::Wide;
    let mut header = vec!["SERVICE", "PROTOCOL", "CLIENT", "VIP", "ENDPOINT", "STATE", "REMAINING"];
    if wide {
        header.extend(["GROUP", "EPOCH", "BIRTH", "N"]);
    }
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|o| {
            let cell = |key: &str| o[key].as_str().map_or_else(|| o[key].to_string(), str::to_owned);
            let mut row: Vec<String> =
                ["service", "protocol", "client", "vip", "endpoint", "state"].map(cell).to_vec();
            row.push(print::nanoseconds(o["remaining_ns"].as_u64().unwrap_or(0)));
            if wide {
                row.extend(["group", "epoch", "birth", "n"].map(cell));
            }
            row
        })
        .collect();
    print::table(&header, &rows);
    Ok(())
}

fn object(flow: &Flow) -> Value {
    let record = flow.record.clone().unwrap_or_default();
    let key = record.key.clone().unwrap_or_default();
    let protocol = match key.protocol() {
        types::Protocol::Tcp => "tcp",
        types::Protocol::Udp => "udp",
        types::Protocol::Unspecified => "?",
    };
    let state =
        record.state().as_str_name().trim_start_matches("FLOW_STATE_").to_lowercase().replace('_', "-");
    let version = record.version.unwrap_or_default();
    json!({
        "service": flow.service, "group": flow.group, "protocol": protocol,
        "client": socket(key.client), "vip": socket(key.service), "endpoint": socket(record.endpoint_address),
        "state": state, "remaining_ns": record.remaining_ns,
        "epoch": flow.epoch, "birth": version.birth, "n": version.n,
    })
}

fn socket(address: Option<types::SocketAddress>) -> String {
    let address = address.unwrap_or_default();
    format!("{}:{}", print::address(&address.address), address.port)
}

fn filter(filters: &[String]) -> Result<FlowFilter, Failure> {
    const ALLOWED: &str =
        "allowed: group=, service=, client=ADDRESS[:PORT], endpoint=ADDRESS[:PORT], protocol=tcp|udp";
    let mut filter = FlowFilter::default();
    for text in filters {
        let wrong = || Failure::Usage(format!("--filter {text:?}: {ALLOWED}"));
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        match key {
            "group" => filter.group = Some(value.to_owned()),
            "service" => filter.service = Some(value.to_owned()),
            "client" => (filter.client, filter.client_port) = address(value).ok_or_else(wrong)?,
            "endpoint" => (filter.endpoint, filter.endpoint_port) = address(value).ok_or_else(wrong)?,
            "protocol" => {
                let protocol = match value {
                    "tcp" => types::Protocol::Tcp,
                    "udp" => types::Protocol::Udp,
                    _ => return Err(wrong()),
                };
                filter.set_protocol(protocol);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(filter)
}

type AddressAndPort = (Option<Vec<u8>>, Option<u32>);

fn address(text: &str) -> Option<AddressAndPort> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some((Some(bytes(socket.ip())), Some(socket.port().into())));
    }
    text.parse::<IpAddr>().ok().map(|ip| (Some(bytes(ip)), None))
}
