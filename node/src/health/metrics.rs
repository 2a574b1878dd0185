//! Health as `/metrics` shows it.

use std::collections::BTreeMap;
use std::fmt;

use lockstep_model::ids::EndpointId;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::View;
use super::target::{Target, targets};
use crate::parts::Parts;

/// By service and endpoint; an endpoint that is not known to be down counts as up.
pub(crate) fn encode(parts: &Parts, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    type Value = fn(&Target, Option<&View>) -> Option<bool>;
    let gauges: [(&str, &str, Value); 2] = [
        (
            "endpoint_health",
            "1: the cluster holds the endpoint to be up, or has not judged it; 0: down",
            |target, _| Some(!target.is_down()),
        ),
        (
            "endpoint_health_here",
            "What this node's own probes find: 1 up, 0 down; absent before that",
            |_, view| view?.opinion,
        ),
    ];
    let targets = targets(&parts.raft.stale());
    let views: BTreeMap<EndpointId, View> = parts.health.views();
    for (name, help, value) in gauges {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (id, target) in &targets {
            let Some(up) = value(target, views.get(id)) else { continue };
            let labels = [("service", target.name.to_string()), ("endpoint", target.address.to_string())];
            ConstGauge::new(i64::from(up)).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
