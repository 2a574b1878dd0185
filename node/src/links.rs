//! Carrier of the data-plane interfaces, from netlink link events. A lost event (`ENOBUFS`) is answered by
//! reading all interfaces again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures::{FutureExt, StreamExt, TryStreamExt};
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
                    // What was queued before the loss comes with the first answer, and may be older than it. Once that is
                    // thrown away, the second reading is newer than everything that has come.
                    for _ in 0..2 {
                        while events.next().now_or_never().flatten().is_some() {}
                        if let Err(error) = links.read(&handle).await {
                            tracing::error!(%error, "links cannot be read");
                        }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// More than a socket's receive buffer holds.
    const EVENTS: usize = 4000;
    const LIMIT: Duration = Duration::from_secs(10);

    fn ip(lines: &str) {
        let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "ip -batch");
    }

    async fn until(down: &mut watch::Receiver<Down>, names: &[&str]) {
        let wanted: Down = names.iter().map(|name| (*name).to_owned()).collect();
        let seen = tokio::time::timeout(LIMIT, down.wait_for(|down| *down == wanted)).await.is_ok();
        assert!(seen, "down are {:?}, not {wanted:?}", down.borrow());
    }

    /// Needs root. In a namespace of its own.
    #[tokio::test]
    async fn i14_lost_events_are_answered_by_reading_all_links() {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test runs as root");
        ip("link add eth0 type veth peer name peer0\nlink add eth1 type veth peer name peer1\n\
            link set eth0 up\nlink set peer0 up\nlink set eth1 up\nlink set peer1 up\n");
        let mut down = watch(["eth0", "eth1"].map(str::to_owned).into()).await.unwrap();
        until(&mut down, &[]).await;
        // This thread is the only one that reads, and does not while these happen: the last are those that are lost.
        let noise: String = (0..EVENTS).map(|n| format!("link set eth1 alias n{n}\n")).collect();
        ip(&(noise + "link set peer0 down\n"));
        until(&mut down, &["eth0"]).await;
        // And it still hears.
        ip("link set peer0 up\nlink delete eth1\n");
        until(&mut down, &["eth1"]).await;
        ip("link add eth1 type veth peer name peer1\nlink set eth1 up\nlink set peer1 up\n");
        until(&mut down, &[]).await;
    }
}
