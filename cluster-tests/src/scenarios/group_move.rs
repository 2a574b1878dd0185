//! `lockstep group move` there and back under traffic: flushed before the lease is closed, no flow lost, and the former
//! owner a standby with all flows again. Whom a group cannot be given to is refused, and nothing moves.

use std::time::Duration;

use crate::cluster::{Cluster, GROUP};
use crate::manifest::{EXAMPLE, Profile};
use crate::session::Session;
use crate::topology::Node;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);

/// Group, node, exit code and what the refusal names.
const REFUSED: &[(&str, &str, i32, &[&str])] = &[
    ("nowhere", "b", 4, &["group", "nowhere"]),
    (GROUP, "nobody", 4, &["node", "nobody"]),
    (GROUP, "w", 1, &["node: w", "not named by the group", "allowed a, b"]),
];

/// What an owner says that hands over instead of letting its lease end.
pub(super) const HANDED_OVER: &str = "flows flushed, the group is handed over";

pub(super) fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(EXAMPLE, Profile::Fast)?;
    cluster.wait_ready()?;
    let mut session = Session::start(&cluster, 100)?;
    let result = check(&mut cluster, &mut session).and_then(|()| session.finish());
    result.map_err(|error| cluster.explain(error))
}

fn check(cluster: &mut Cluster, session: &mut Session) -> anyhow::Result<()> {
    for (group, node, code, named) in REFUSED {
        let output = cluster.try_lockstep(Node::W, &["group", "move", group, "--to", node], "")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.code() == Some(*code), "{group} to {node}: {}: {said}", output.status);
        for word in *named {
            anyhow::ensure!(said.contains(word), "{group} to {node}: it does not name {word:?}: {said}");
        }
    }
    for moves in 1..=2 {
        let owner = cluster.wait_ready()?;
        let next = owner.other();
        // Who is asked has to know it as well.
        wait::until("the witness to know that the standby holds the flows", LIMIT, || {
            let standbys = cluster.group(Node::W)?.standbys;
            Ok(standbys.iter().any(|s| s.node_name == next.name() && s.caught_up).then_some(()))
        })?;
        let said = cluster.lockstep(Node::W, &["group", "move", GROUP, "--to", next.name()])?;
        println!("{}", said.trim());
        // Whoever owned it holds all flows again.
        let now = cluster.wait_ready()?;
        anyhow::ensure!(now == next, "{} serves, not {}", now.name(), next.name());
        let log = cluster.process(owner)?.tail(usize::MAX);
        anyhow::ensure!(log.contains(HANDED_OVER), "{} did not say {HANDED_OVER:?}", owner.name());
        session.next_stretch();
        println!("move {moves} done");
    }
    Ok(())
}
