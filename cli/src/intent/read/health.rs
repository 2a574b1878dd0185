//! Health of endpoints: what the cluster agreed on, and what the node that answers sees.

use std::collections::BTreeMap;

use lockstep_model::health::Failure;
use lockstep_proto::inspect::v1::{EndpointHealthRequest, EndpointView, HealthOpinion};
use lockstep_proto::types::v1 as types;
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::Failure as CliFailure;
use crate::print;

/// By endpoint id.
pub(super) type Views = BTreeMap<u64, EndpointView>;

/// What the node that answers sees. One of a version without health checks sees nothing.
pub(super) async fn views(client: &mut Client) -> Result<Views, CliFailure> {
    let request = EndpointHealthRequest { service: String::new() };
    let mut pages = match client.inspect.endpoint_health(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(Views::new()),
        Err(status) => return Err(status.into()),
    };
    let mut views = Views::new();
    while let Some(page) = pages.message().await? {
        views.extend(page.endpoints.into_iter().map(|view| (view.endpoint, view)));
    }
    Ok(views)
}

/// A line for each endpoint, in the manifest's order.
pub(super) fn of_service(service: &types::Service, views: &Views, nodes: &[Value]) -> Value {
    let Some(spec) = &service.spec else { return json!([]) };
    let name_of = |id: u64| {
        let node = nodes.iter().find(|node| node["status"]["id"] == id);
        node.map_or_else(|| json!(id.to_string()), |node| node["name"].clone())
    };
    let each = spec.endpoints.iter().zip(&service.endpoint_ids).map(|(endpoint, id)| {
        let address = endpoint.address.as_ref().map(print::socket).unwrap_or_default();
        let mut line = json!({"address": address, "id": id});
        let probed = spec.health.is_some() && endpoint.state() != types::EndpointState::Disabled;
        if !probed {
            line["health"] = json!("unchecked");
            return line;
        }
        // Until it is judged an endpoint takes flows.
        line["health"] = json!("unknown");
        if let Some(verdict) = service.verdicts.iter().find(|verdict| verdict.endpoint == *id) {
            line["health"] = json!(if verdict.up { "up" } else { "down" });
            line["since"] = json!(utc(verdict.at_unix_ms));
            line["index"] = json!(verdict.index);
            line["nodes"] = verdict.nodes.iter().map(|node| name_of(*node)).collect();
            if let Some(error) = verdict.failure.as_ref().and_then(failure) {
                line["error"] = json!(error);
            }
        }
        if let Some(view) = views.get(id) {
            here(&mut line, view, name_of);
        }
        line
    });
    each.collect()
}

fn here(line: &mut Value, view: &EndpointView, name_of: impl Fn(u64) -> Value) {
    if let Some(opinion) = opinion(view.here()) {
        line["here"] = json!(opinion);
    }
    if let Some(error) = view.failure.as_ref().and_then(failure) {
        line["here_error"] = json!(error);
    }
    for report in &view.reports {
        let name = name_of(report.node);
        line["reports"][name.as_str().unwrap_or_default()] = json!(opinion(report.opinion()));
    }
}

fn opinion(opinion: HealthOpinion) -> Option<&'static str> {
    match opinion {
        HealthOpinion::Up => Some("up"),
        HealthOpinion::Down => Some("down"),
        HealthOpinion::Undecided => Some("undecided"),
        HealthOpinion::Unspecified => None,
    }
}

/// `None`: of a kind that only a newer version knows.
fn failure(wire: &types::ProbeFailure) -> Option<String> {
    Failure::try_from(*wire).ok().map(|failure| failure.to_string())
}

/// RFC 3339, to the second. Civil from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // From 1 March of year 0, in eras of 400 years.
    let since = days + 719_468;
    let (era, day_of_era) = (since / 146_097, since % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds * 1000), expected, "{seconds}");
        }
    }

    #[test]
    fn an_endpoint_shows_verdict_and_view() {
        let endpoint = |host: u8, state| types::EndpointSpec {
            address: Some(types::SocketAddress { address: vec![10, 0, 0, host], port: 80 }),
            state: i32::from(state),
            ..Default::default()
        };
        let active = types::EndpointState::Active;
        let spec = types::ServiceSpec {
            health: Some(types::HealthCheck::default()),
            endpoints: vec![
                endpoint(1, active),
                endpoint(2, active),
                endpoint(3, types::EndpointState::Disabled),
            ],
            ..Default::default()
        };
        let kind = types::ProbeFailureKind::Status.into();
        let failure = types::ProbeFailure { kind, detail: 503 };
        let verdict = types::EndpointVerdict {
            endpoint: 7,
            at_unix_ms: 1_735_689_600_999,
            failure: Some(failure),
            nodes: vec![1, 9],
            ..Default::default()
        };
        let (spec, verdicts) = (Some(spec), vec![verdict]);
        let service = types::Service { spec, endpoint_ids: vec![7, 8, 9], verdicts, ..Default::default() };
        let here = HealthOpinion::Up.into();
        let views = Views::from([(8, EndpointView { endpoint: 8, here, ..Default::default() })]);
        let nodes = [json!({"name": "a", "status": {"id": 1}})];
        let shown = of_service(&service, &views, &nodes);
        assert_eq!(
            shown[0],
            json!({"address": "10.0.0.1:80", "id": 7, "health": "down", "since": "2025-01-01T00:00:00Z",
                "index": 0, "nodes": ["a", "9"], "error": "status 503"})
        );
        assert_eq!(shown[1], json!({"address": "10.0.0.2:80", "id": 8, "health": "unknown", "here": "up"}));
        assert_eq!(shown[2], json!({"address": "10.0.0.3:80", "id": 9, "health": "unchecked"}));
    }
}
