//! What is to be probed, as a function of the agreed state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lockstep_model::ids::{EndpointId, GroupId, ServiceId};
use lockstep_model::intent::{HealthCheck, Probe};
use lockstep_model::state::{Service, State};

/// An endpoint, and how it is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) service: ServiceId,
    /// Name of the service.
    pub(crate) name: Arc<str>,
    pub(crate) group: GroupId,
    /// The endpoint as the operator wrote it.
    pub(crate) address: SocketAddr,
    /// Where probes go; port 0 for echo.
    pub(crate) to: SocketAddr,
    pub(crate) check: Arc<HealthCheck>,
    /// What the cluster holds; `None`: it has never been judged.
    pub(crate) verdict: Option<bool>,
}

impl Target {
    /// Whether it is asked the same.
    pub(crate) fn asks_as(&self, other: &Target) -> bool {
        self.to == other.to && self.check == other.check
    }

    pub(crate) fn is_down(&self) -> bool {
        self.verdict == Some(false)
    }
}

/// All of them.
pub(crate) fn targets(state: &State) -> BTreeMap<EndpointId, Target> {
    let mut targets = BTreeMap::new();
    for (id, service) in &state.services {
        let Some(check) = &service.spec.health else { continue };
        let (check, name) = (Arc::new(HealthCheck::clone(check)), Arc::from(service.spec.name.as_str()));
        for (endpoint, spec) in service.probed() {
            let target = Target {
                service: *id,
                name: Arc::clone(&name),
                group: service.group,
                address: spec.address,
                to: destination(service, &check, spec.address),
                check: check.clone(),
                verdict: service.verdicts.get(&endpoint).map(|verdict| verdict.up),
            };
            targets.insert(endpoint, target);
        }
    }
    targets
}

/// The check's port, else the endpoint's, else the service's: one of them there is, as manifests are checked.
fn destination(service: &Service, check: &HealthCheck, address: SocketAddr) -> SocketAddr {
    let ports = [check.port, address.port(), service.spec.port.first];
    let port = match check.probe {
        Probe::Icmp => 0,
        _ => ports.into_iter().find(|port| *port != 0).unwrap_or(0),
    };
    SocketAddr::new(address.ip(), port)
}
