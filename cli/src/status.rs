//! `counters`, `group status`, `node status`.

use lockstep_proto::inspect::v1 as inspect;
use serde_json::json;

use crate::args::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

pub(crate) async fn counters(client: &mut Client, output: Output) -> Result<(), Failure> {
    let counters = client.inspect.counters(inspect::CountersRequest {}).await?.into_inner().counters;
    if matches!(output, Output::Json | Output::Yaml) {
        let objects: Vec<_> =
            counters.iter().map(|c| json!({"family": c.family, "name": c.name, "value": c.value})).collect();
        return print::objects(&objects, false, output);
    }
    let rows: Vec<Vec<String>> = counters
        .iter()
        .map(|c| vec![c.family.clone(), c.name.clone(), c.value.to_string(), c.help.clone()])
        .collect();
    print::table(&["FAMILY", "NAME", "VALUE", "WHAT"], &rows);
    Ok(())
}

pub(crate) async fn group(client: &mut Client, name: Option<String>, output: Output) -> Result<(), Failure> {
    let request = inspect::GroupStatusRequest { name: name.clone().unwrap_or_default() };
    let groups = client.inspect.group_status(request).await?.into_inner().groups;
    if matches!(output, Output::Json | Output::Yaml) {
        let objects: Vec<_> = groups.iter().map(group_object).collect();
        return print::objects(&objects, name.is_some(), output);
    }
    for group in &groups {
        print::text(&group_text(group));
    }
    Ok(())
}

fn group_object(group: &inspect::GroupStatus) -> serde_json::Value {
    let promises: Vec<_> = group
        .promises
        .iter()
        .map(|p| json!({"voter": p.voter, "granted": p.granted, "left_ns": p.left_ns, "reason": p.reason}))
        .collect();
    let standbys: Vec<_> = group
        .standbys
        .iter()
        .map(|s| {
            json!({"node": s.node_name, "eligible": s.eligible, "reason": s.reason, "chosen": s.chosen,
                "caught_up": s.caught_up,
                "unacknowledged": s.unacknowledged, "lag_ns": s.lag_ns})
        })
        .collect();
    let ports: Vec<_> = group
        .ports
        .iter()
        .map(|p| json!({"address": print::address(&p.address), "used": p.used, "total": p.total}))
        .collect();
    json!({
        "id": group.id, "name": group.name, "owner": group.owner_name, "epoch": group.epoch,
        "lease_held": group.lease_held, "lease_left_ns": group.lease_left_ns,
        "lease_unbounded": group.lease_unbounded, "quorum": group.quorum,
        "promises": promises, "standbys": standbys, "ports": ports,
    })
}

fn group_text(group: &inspect::GroupStatus) -> String {
    let owner = if group.owner_name.is_empty() { "nobody" } else { &group.owner_name };
    let lease = match (group.lease_held, group.lease_left_ns) {
        (true, Some(left)) => format!("held here, {} left", print::nanoseconds(left)),
        (true, None) => "held here, unbounded".to_owned(),
        (false, _) => "not held here".to_owned(),
    };
    let mut out = format!("group {}: owner {owner}, epoch {}, lease {lease}\n", group.name, group.epoch);
    let granted = group.promises.iter().filter(|p| p.granted).count();
    if !group.promises.is_empty() {
        out.push_str(&format!("  promises: {granted} held, {} needed\n", group.quorum));
    }
    for promise in &group.promises {
        let text = match (promise.granted, promise.left_ns) {
            (true, Some(left)) => format!("granted, {} left", print::nanoseconds(left)),
            (true, None) => "granted".to_owned(),
            (false, _) => format!("not granted: {}", promise.reason),
        };
        out.push_str(&format!("    voter {}: {text}\n", promise.voter));
    }
    for standby in &group.standbys {
        let eligible = if standby.eligible { "eligible" } else { "not eligible" };
        let lag = standby.lag_ns.map_or_else(String::new, |lag| format!(", lag {}", print::nanoseconds(lag)));
        let behind = standby.unacknowledged.map_or_else(String::new, |n| format!(", {n} unacknowledged"));
        let caught_up = match (standby.chosen, standby.caught_up) {
            (false, _) => "not chosen",
            (true, true) => "caught up",
            (true, false) => "not caught up",
        };
        out.push_str(&format!(
            "  standby {}: {eligible} ({}), {caught_up}{lag}{behind}\n",
            standby.node_name, standby.reason
        ));
    }
    for ports in &group.ports {
        let address = print::address(&ports.address);
        out.push_str(&format!("  source ports of {address}: {} of {} in use\n", ports.used, ports.total));
    }
    out
}

pub(crate) async fn node(client: &mut Client, name: Option<String>, output: Output) -> Result<(), Failure> {
    let answer = client.inspect.node_status(inspect::NodeStatusRequest {}).await?.into_inner();
    if let Some(name) = name.filter(|name| *name != answer.name) {
        return Err(Failure::Usage(format!(
            "this server is node {:?}: ask {name:?} itself, with --server its api.listen",
            answer.name
        )));
    }
    if matches!(output, Output::Json | Output::Yaml) {
        let groups: Vec<_> =
            answer.groups.iter().map(|g| json!({"name": g.name, "fit": g.fit, "reason": g.reason})).collect();
        let interfaces: Vec<_> = answer
            .interfaces
            .iter()
            .map(|i| json!({"name": i.name, "hook": i.hook, "why": i.why, "carrier": i.carrier, "attached": i.attached}))
            .collect();
        let object = json!({
            "id": answer.id, "name": answer.name, "version": answer.version, "uptime_ns": answer.uptime_ns,
            "applied_index": answer.applied_index, "revision": answer.revision,
            "programmed_revision": answer.programmed_revision, "draining": answer.draining,
            "flows": answer.flows, "max_flows": answer.max_flows, "not_ready": answer.not_ready, "groups": groups, "interfaces": interfaces,
        });
        return print::objects(&[object], true, output);
    }
    let mut out = format!(
        "node {} (id {}), lockstepd {}, up {}\n  revision {}, programmed {}, applied log {}{}\n  flows {} of {}\n",
        answer.name,
        answer.id,
        answer.version,
        print::nanoseconds(answer.uptime_ns),
        answer.revision,
        answer.programmed_revision,
        answer.applied_index,
        if answer.draining { ", draining" } else { "" },
        answer.flows,
        answer.max_flows
    );
    if !answer.not_ready.is_empty() {
        out.push_str(&format!("  NOT READY: {}\n", answer.not_ready));
    }
    for interface in &answer.interfaces {
        let carrier = if interface.carrier { "carrier" } else { "NO CARRIER" };
        let attached = if interface.attached { "attached" } else { "NOT ATTACHED" };
        let (name, hook, why) = (&interface.name, &interface.hook, &interface.why);
        out.push_str(&format!("  interface {name}: {hook} {attached}, {carrier} ({why})\n"));
    }
    for group in &answer.groups {
        let fit = if group.fit { "fit" } else { "UNFIT" };
        let reason = if group.reason.is_empty() { String::new() } else { format!(": {}", group.reason) };
        out.push_str(&format!("  group {}: {fit}{reason}\n", group.name));
    }
    print::text(&out);
    Ok(())
}
