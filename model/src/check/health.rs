//! Health checks.

use super::Problem;
use super::service::time;
use crate::duration;
use crate::intent::{HealthCheck, HttpProbe, Probe, ServiceSpec, StatusRange};
use crate::limits::{
    MAX_HEALTH_INTERVAL, MAX_PROBE_BYTES, MAX_PROBE_HOST, MAX_PROBE_PATH, MAX_RISE_FALL, MIN_HEALTH_INTERVAL,
};

pub(super) fn check(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    let Some(health) = &spec.health else { return };
    time("spec.health.interval", health.interval, MIN_HEALTH_INTERVAL, MAX_HEALTH_INTERVAL, problems);
    // More than the interval is named where it is wrong, not once more where it follows from that.
    let most = health.interval.clamp(MIN_HEALTH_INTERVAL, MAX_HEALTH_INTERVAL);
    time("spec.health.timeout", health.timeout, duration::RESOLUTION, most, problems);
    for (field, value) in [("rise", health.rise), ("fall", health.fall)] {
        if !(1..=MAX_RISE_FALL).contains(&value) {
            problems.push(Problem::new(format!("spec.health.{field}"), value, format!("1-{MAX_RISE_FALL}")));
        }
    }
    port(spec, health, problems);
    match &health.probe {
        Probe::Http(probe) | Probe::Https(probe) => http(probe, problems),
        Probe::Udp { send, expect } => {
            for (field, bytes) in [("send", send), ("expect", expect)] {
                let Some(bytes) = bytes else { continue };
                if bytes.is_empty() || bytes.len() > MAX_PROBE_BYTES {
                    let (value, allowed) =
                        (format!("{} bytes", bytes.len()), format!("1-{MAX_PROBE_BYTES} bytes"));
                    problems.push(Problem::new(format!("spec.health.{field}"), value, allowed));
                }
            }
        }
        Probe::Tcp | Probe::Icmp => {}
    }
}

/// Whatever is probed by port has one, by itself or from the service.
fn port(spec: &ServiceSpec, health: &HealthCheck, problems: &mut Vec<Problem>) {
    if health.probe == Probe::Icmp {
        if health.port != 0 {
            problems.push(Problem::new("spec.health.port", health.port, "no port: the type is icmp"));
        }
        return;
    }
    let lacks = |port: u16| port == 0 && health.port == 0 && !spec.port.is_single();
    if let Some((i, endpoint)) = spec.endpoints.iter().enumerate().find(|(_, e)| lacks(e.address.port())) {
        let allowed = format!(
            "1-65535: spec.endpoints[{i}] ({}) has no port, and the service not a single one",
            endpoint.address.ip()
        );
        problems.push(Problem::new("spec.health.port", "missing", allowed));
    }
}

/// Nothing in either may end the line of the request that it stands in.
fn http(probe: &HttpProbe, problems: &mut Vec<Problem>) {
    let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !probe.path.starts_with('/') || probe.path.len() > MAX_PROBE_PATH || !visible(&probe.path) {
        let allowed = format!("a path of 1-{MAX_PROBE_PATH} visible ASCII characters from /");
        problems.push(Problem::new("spec.health.path", format!("{:?}", probe.path), allowed));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if probe.host.len() > MAX_PROBE_HOST || !probe.host.chars().all(plain) {
        let allowed = format!("a host of 1-{MAX_PROBE_HOST} characters, and a port if need be");
        problems.push(Problem::new("spec.health.host", format!("{:?}", probe.host), allowed));
    }
    if !probe.expect.is_valid() {
        problems.push(Problem::new("spec.health.expect", probe.expect, StatusRange::FORMS));
    }
}
