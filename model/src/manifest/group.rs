//! `kind: Group`.

use super::reader::{Fields, Node};
use crate::intent::GroupSpec;
use crate::limits::MAX_NODES;

pub(super) fn read(document: &Fields<'_>) -> Option<GroupSpec> {
    let name = document.required("name", "a name").and_then(|v| v.text());
    let spec = document.required("spec", "a mapping of fields")?.object()?;
    spec.only(&["addresses", "interfaces", "nodes", "standbys", "failback"]);
    let addresses = spec.or("addresses", Vec::new(), |v| v.list_of(|a| a.address()));
    let interfaces = spec.or("interfaces", Vec::new(), names);
    let nodes = spec.or("nodes", Vec::new(), names);
    let standbys = spec.or("standbys", 1, |v| v.integer(1, MAX_NODES as u16 - 1));
    let failback = spec.or("failback", false, |v| v.boolean());
    Some(GroupSpec {
        name: name?.to_owned(),
        addresses: addresses?,
        interfaces: interfaces?,
        nodes: nodes?,
        standbys: u8::try_from(standbys?).expect("its largest value is below the number of nodes"),
        failback: failback?,
    })
}

fn names(list: &Node<'_>) -> Option<Vec<String>> {
    list.list_of(|name| name.text().map(str::to_owned))
}
