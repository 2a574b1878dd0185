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
    let mut header =
        vec!["SERVICE", "PROTOCOL", "CLIENT", "VIP", "SOURCE", "ENDPOINT", "KIND", "STATE", "REMAINING"];
    if wide {
        header.extend(["GROUP", "EPOCH", "BIRTH", "N"]);
    }
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|o| {
            let cell = |key: &str| match &o[key] {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let columns = ["service", "protocol", "client", "vip", "source", "endpoint", "kind", "state"];
            let mut row: Vec<String> = columns.map(cell).to_vec();
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
    let protocol = word(key.protocol().as_str_name(), "PROTOCOL_");
    let state = word(record.state().as_str_name(), "FLOW_STATE_");
    let kind = word(record.kind().as_str_name(), "FLOW_KIND_");
    let version = record.version.unwrap_or_default();
    json!({
        "service": flow.service, "group": flow.group, "protocol": protocol,
        "client": socket(key.client), "vip": socket(key.service), "endpoint": socket(record.endpoint_address),
        "source": record.source.map(|source| socket(Some(source))), "kind": kind,
        "state": state, "remaining_ns": record.remaining_ns,
        "epoch": flow.epoch, "birth": version.birth, "n": version.n,
    })
}

/// The name of an enum's value, as operators write it.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

/// With brackets around an IPv6 address, as in a URL: its end is a port otherwise.
fn socket(address: Option<types::SocketAddress>) -> String {
    print::socket(&address.unwrap_or_default())
}

fn filter(filters: &[String]) -> Result<FlowFilter, Failure> {
    const ALLOWED: &str = "allowed: group=, service=, client=ADDRESS[:PORT], endpoint=ADDRESS[:PORT] (an IPv6 address with a port \
         in brackets), protocol=tcp|udp|sctp|icmp";
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
                    "sctp" => types::Protocol::Sctp,
                    "icmp" => types::Protocol::Icmp,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_address(text: &str) -> types::SocketAddress {
        let socket: SocketAddr = text.parse().unwrap();
        let (bytes, port) = address(text).unwrap();
        assert_eq!(port, Some(socket.port().into()));
        types::SocketAddress { address: bytes.unwrap(), port: socket.port().into() }
    }

    #[test]
    fn a_flow_is_shown_with_its_source_and_kind() {
        let mut record = types::FlowRecord {
            key: Some(types::FlowKey {
                client: Some(socket_address("[2001:db8::1]:4711")),
                service: Some(socket_address("[2001:db8::2]:443")),
                protocol: types::Protocol::Sctp.into(),
            }),
            endpoint_address: Some(socket_address("[fd00::11]:8443")),
            source: Some(socket_address("[fd00::1]:32768")),
            kind: types::FlowKind::DsrIpip.into(),
            state: types::FlowState::ResetPending.into(),
            ..Default::default()
        };
        let shown = object(&Flow { record: Some(record.clone()), ..Default::default() });
        let field = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(field("client"), "[2001:db8::1]:4711");
        assert_eq!(field("source"), "[fd00::1]:32768");
        assert_eq!((field("protocol"), field("kind")), ("sctp".to_owned(), "dsr-ipip".to_owned()));
        assert_eq!(field("state"), "reset-pending");

        record.source = None;
        let shown = object(&Flow { record: Some(record), ..Default::default() });
        assert_eq!(shown["source"], Value::Null);
    }

    #[test]
    fn filters_take_addresses_of_both_families() {
        let read = |text: &str| filter(&[text.to_owned()]);
        assert_eq!(read("client=2001:db8::1").unwrap().client.unwrap().len(), 16);
        let with_port = read("endpoint=[2001:db8::1]:53").unwrap();
        assert_eq!((with_port.endpoint.unwrap().len(), with_port.endpoint_port), (16, Some(53)));
        assert_eq!(read("protocol=icmp").unwrap().protocol(), types::Protocol::Icmp);
        assert!(read("protocol=gre").is_err() && read("client=2001:db8::1:x").is_err());
    }
}
