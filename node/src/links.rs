//! Carrier of the data-plane interfaces, from netlink link events. A lost event (`ENOBUFS`) is answered by
//! reading all interfaces again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;

/// The names of the watched interfaces that cannot carry traffic now (no carrier, down, or gone).
pub(crate) type Down = BTreeSet<String>;

/// Watches `names` until the returned receiver is dropped.
pub(crate) async fn watch(names: Vec<String>) -> Result<watch::Receiver<Down>> {
    let (connection, handle, mut events) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).context("netlink cannot be opened")?;
    tokio::spawn(connection);
    let mut links = Links::new(names);
    links.read(&handle).await?;
    let (publish, down) = watch::channel(links.down());
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = publish.closed() => return,
            };
            let Some((message, _)) = event else {
                tracing::error!("netlink ended: carrier changes are no longer seen; restart lockstepd");
                return;
            };
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => links.saw(&link),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => links.gone(&link),
                NetlinkPayload::Overrun(_) => {
                    tracing::warn!("netlink lost events: reading all links again");
                    if let Err(error) = links.read(&handle).await {
                        tracing::error!(%error, "links cannot be read");
                    }
                }
                _ => continue,
            }
            publish.send_if_modified(|known| {
                let now = links.down();
                let changed = *known != now;
                if changed {
                    tracing::warn!(down = ?now, "carrier changed");
                    *known = now;
                }
                changed
            });
        }
    });
    Ok(down)
}

struct Links {
    running: BTreeMap<String, bool>,
}

impl Links {
    fn new(names: Vec<String>) -> Self {
        Self { running: names.into_iter().map(|name| (name, false)).collect() }
    }

    async fn read(&mut self, handle: &Handle) -> Result<()> {
        self.running.values_mut().for_each(|running| *running = false);
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.context("links cannot be read")? {
            self.saw(&link);
        }
        Ok(())
    }

    fn saw(&mut self, link: &LinkMessage) {
        let carries = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        if let Some(running) = name(link).and_then(|name| self.running.get_mut(name)) {
            *running = carries;
        }
    }

    fn gone(&mut self, link: &LinkMessage) {
        if let Some(running) = name(link).and_then(|name| self.running.get_mut(name)) {
            *running = false;
        }
    }

    fn down(&self) -> Down {
        self.running.iter().filter(|(_, running)| !**running).map(|(name, _)| name.clone()).collect()
    }
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}
