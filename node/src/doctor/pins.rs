//! What is pinned already: by the daemon that runs, by one that ended, by another build, or for an interface that
//! has gone.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use super::links::Link;
use crate::config::Dataplane;

/// Numbers of the programs that are ours.
#[derive(Debug, Default)]
pub(super) struct Ours(pub(super) BTreeSet<u32>);

pub(super) fn check(
    dataplane: &Dataplane,
    running: bool,
    links: &Result<BTreeMap<String, Link>, String>,
    findings: &mut Findings,
) -> Ours {
    const SUBJECT: &str = "pins";
    let pin_dir = &dataplane.pin_dir;
    let purge = "`lockstepd --config FILE --purge` removes them (live flows are lost)";
    let schemas = match lockstep_loader::pinned(pin_dir) {
        Ok(schemas) => schemas,
        Err(error) => {
            findings.fail(SUBJECT, format!("they cannot be read: {error}"));
            return Ours::default();
        }
    };
    if schemas.is_empty() {
        findings.ok(SUBJECT, format!("none in {}: the node begins anew", pin_dir.display()));
    }
    let mut ours = Ours::default();
    for schema in &schemas {
        let path = schema.path.display();
        ours.0.extend(schema.links.iter().map(|link| link.program));
        if !schema.current {
            let attached: BTreeSet<&str> = schema.links.iter().map(|link| link.interface.as_str()).collect();
            let attached: Vec<&str> = attached.into_iter().collect();
            match attached.is_empty() {
                true => findings.warn(SUBJECT, format!("{path} is another build's, attached nowhere: it only holds memory; `rm -r {path}` frees it")),
                false => findings.fail(SUBJECT, format!("{path} is another build's, attached to {}: this one would not start; hand the groups over, then {purge}", attached.join(", "))),
            }
            continue;
        }
        match lockstep_loader::pins_fit(pin_dir, dataplane.max_flows) {
            Err(error) => findings.fail(SUBJECT, error.to_string()),
            Ok(()) if running => findings.ok(SUBJECT, format!("{path}, of the daemon that runs")),
            Ok(()) => findings.warn(SUBJECT, format!("{path} is there without a daemon: the kernel goes on with what it was told last; a start adopts it with its flows, {purge}")),
        }
        for link in &schema.links {
            let pin = link.path.display();
            let named = dataplane.interfaces.iter().any(|interface| interface.name == link.interface);
            let there = links.as_ref().ok().map(|links| links.get(&link.interface).map(|there| there.index));
            if link.ifindex == 0 {
                findings
                    .warn(SUBJECT, format!("{pin}: the interface it was on has gone; a start removes it"));
            } else if !named {
                findings.warn(SUBJECT, format!("{pin}: still attached, though dataplane.interfaces does not name {:?}; a start detaches it", link.interface));
            } else if there.is_some_and(|index| index != Some(link.ifindex)) {
                findings.warn(
                    SUBJECT,
                    format!(
                        "{pin}: on interface number {}, which is not the {:?} of now; a start attaches anew",
                        link.ifindex, link.interface
                    ),
                );
            }
        }
    }
    ours
}
