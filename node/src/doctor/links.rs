//! The configured interfaces as netlink shows them.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use rtnetlink::packet_route::tc::TcAttribute;

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) mtu: u32,
    /// Numbers of the programs at XDP, in the driver, in the stack or in hardware.
    pub(super) xdp: Vec<u32>,
    /// Numbers of classic tc ingress filters that are programs, or how else they are called.
    pub(super) filters: Vec<String>,
    /// VLAN interfaces on top of it.
    pub(super) vlans: Vec<String>,
}

/// By name; what there is not is not named. An error is one for all.
pub(super) fn read(names: impl Iterator<Item = String>) -> Result<BTreeMap<String, Link>, String> {
    let names: Vec<String> = names.collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the async runtime cannot be started: {error}"))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| format!("netlink cannot be opened: {error}"))?;
        tokio::spawn(connection);
        let all: Vec<LinkMessage> =
            handle.link().get().execute().try_collect().await.map_err(|error| error.to_string())?;
        let mut links = BTreeMap::new();
        for message in &all {
            let Some(name) = name(message).filter(|name| names.contains(name)) else { continue };
            let mut link = link(message);
            link.vlans =
                all.iter().filter(|other| is_vlan_on(other, link.index)).filter_map(self::name).collect();
            link.filters = filters(&handle, link.index).await;
            links.insert(name, link);
        }
        Ok(links)
    })
}

fn name(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Xdp(parts) => link.xdp = xdp(parts),
            _ => {}
        }
    }
    link
}

fn xdp(parts: &[LinkXdp]) -> Vec<u32> {
    let mut ids: Vec<u32> = parts
        .iter()
        .filter_map(|part| match part {
            LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                Some(*id)
            }
            _ => None,
        })
        .filter(|id| *id != 0)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn is_vlan_on(message: &LinkMessage, parent: u32) -> bool {
    let mut on_parent = false;
    let mut vlan = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(index) => on_parent = *index == parent,
            LinkAttribute::LinkInfo(info) => {
                vlan = info.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vlan)));
            }
            _ => {}
        }
    }
    on_parent && vlan
}

/// Filters of the classic ingress hook (clsact), which tcx comes before. None where there is no such hook.
async fn filters(handle: &rtnetlink::Handle, index: u32) -> Vec<String> {
    let found = handle.traffic_filter(index as i32).get().ingress().execute();
    let found: Vec<_> = found.try_collect().await.unwrap_or_default();
    let kind = |attributes: &[TcAttribute]| {
        attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        })
    };
    let mut kinds: Vec<String> = found.iter().filter_map(|message| kind(&message.attributes)).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}
