//! Nodes that join a cluster that exists, vote, and leave.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lockstep_model::ids::NodeId;
use lockstep_raft_store::guard::NoGuard;
use lockstep_raft_store::{Departure, RaftError, Role};
use tempfile::TempDir;

use crate::daemon::{Daemon, group, listener, spec};

/// A cluster of one.
async fn alone(dir: &TempDir) -> Daemon {
    let a = Daemon::start("edge", listener().await, &[], &dir.path().join("a")).await.expect("starts");
    a.node.init().await.expect("a cluster of one");
    a.settle("a").await;
    a
}

async fn empty(dir: &TempDir, name: &str) -> Daemon {
    let data = dir.path().join(name);
    let daemon = Daemon::start("edge", listener().await, &[], &data).await.expect("an empty node starts");
    daemon.node.set_guard(Arc::new(NoGuard));
    daemon
}

async fn join(node: &Daemon, name: &str, via: &Daemon) -> Result<NodeId, RaftError> {
    let identity = node.node.join_cluster(vec![via.address], spec(name, node.address)).await?;
    Ok(identity.node)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries.map(|e| e.expect("a name").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_becomes_three_and_survives_the_first() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = alone(&dir).await;
    a.node.write(group("early")).await.expect("alone is a majority");

    let b = empty(&dir, "b").await;
    assert_eq!(join(&b, "b", &a).await.expect("b joins"), NodeId(2));
    assert!(
        b.node.is_learner() && b.node.stale().group("early").is_some(),
        "it holds the log, without a vote"
    );
    assert_eq!(a.node.metrics().voters.len(), 1);
    assert_eq!(b.node.enlist().await.expect("b votes").len(), 2);

    // Through a node that does not lead.
    let c = empty(&dir, "c").await;
    assert_eq!(join(&c, "c", &b).await.expect("c joins"), NodeId(3));
    assert_eq!(c.node.enlist().await.expect("c votes").len(), 3);
    assert_eq!(c.node.enlist().await.expect("asking again changes nothing").len(), 3);
    a.until("everybody votes", |m| m.voters.len() == 3 && !m.joint).await;

    a.stop().await;
    b.until("another leads", |m| m.leader.is_some_and(|leader| leader != NodeId(1))).await;
    b.node.write(group("late")).await.expect("two of three are a majority");
    assert_eq!(c.node.read().await.expect("a read").groups.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_left_starts_over_and_gets_another_number() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = alone(&dir).await;
    let b = empty(&dir, "b").await;
    join(&b, "b", &a).await.expect("b joins");
    b.node.enlist().await.expect("b votes");

    let text = b.node.remove(NodeId(9)).await;
    assert!(text.is_ok(), "who is no member has left already: {text:?}");
    assert_eq!(b.node.remove(NodeId(2)).await.expect("b leaves"), [NodeId(1)].into());
    assert_eq!(b.node.departed().await, Departure::Left);
    assert!(a.node.stale().node("b").is_none());
    let (address, data) = (b.address, dir.path().join("b"));
    b.node.forget().await.expect("what it becomes is written down");
    b.stop().await;
    let b = again("edge", address, &data).await;
    assert!(b.node.identity().is_none(), "an empty node");
    assert_eq!(names(&data.join("log")), Vec::<String>::new());
    b.node.set_guard(Arc::new(NoGuard));
    assert_eq!(join(&b, "b", &a).await.expect("b joins again"), NodeId(3));
}

async fn again(cluster: &str, address: SocketAddr, data: &Path) -> Daemon {
    let listener = crate::daemon::rebind(address).await;
    let lock = data.join("lock");
    crate::daemon::until_free(&lock).await;
    Daemon::start(cluster, listener, &[], data).await.expect("a node starts from its data")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_replaced_under_its_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = alone(&dir).await;
    let (b, c) = (empty(&dir, "b").await, empty(&dir, "c").await);
    for (node, name) in [(&b, "b"), (&c, "c")] {
        join(node, name, &a).await.expect("joins");
        node.node.enlist().await.expect("votes");
    }
    b.stop().await;

    let new = empty(&dir, "new").await;
    let text = join(&new, "b", &a).await.expect_err("the name is taken").to_string();
    assert!(text.contains("node 2 has this one") && text.contains("cluster leave b"), "{text}");
    assert!(new.node.identity().is_none(), "nothing was changed");
    // One of the other two is needed, so it may not go.
    let text = a.node.remove(NodeId(3)).await.expect_err("c is needed").to_string();
    assert!(text.contains("\"b\"") && text.contains("Remove the dead first"), "{text}");
    assert_eq!(a.node.remove(NodeId(2)).await.expect("the dead node is taken out").len(), 2);
    assert_eq!(join(&new, "b", &c).await.expect("its successor joins"), NodeId(4));
    assert_eq!(new.node.enlist().await.expect("and votes").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_belong_is_refused_and_told_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = alone(&dir).await;
    let foreign = Daemon::start("core", listener().await, &[], &dir.path().join("f")).await.expect("starts");
    let text = join(&foreign, "f", &a).await.expect_err("another name").to_string();
    assert!(text.contains("\"core\"") && text.contains("\"edge\""), "{text}");

    let other = Daemon::start("edge", listener().await, &[], &dir.path().join("o")).await.expect("starts");
    other.node.init().await.expect("a cluster of the same name");
    other.settle("o").await;
    let error = join(&other, "o", &a).await.expect_err("it has a cluster of its own");
    assert_eq!(error.kind(), "already_initialized", "{error}");

    let text = a.node.remove(NodeId(1)).await.expect_err("the last voter").to_string();
    assert!(text.contains("last voter"), "{text}");
    let nobody = listener().await.local_addr().expect("bound");
    let b = empty(&dir, "b").await;
    let error = b.node.join_cluster(vec![nobody], spec("b", b.address)).await.expect_err("nobody listens");
    assert!(error.kind() == "no_leader" && error.to_string().contains(&nobody.to_string()), "{error}");
    assert_eq!(a.node.metrics().role, Role::Leader);
    assert_eq!(a.node.stale().nodes.len(), 1, "nobody was let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_taken_out_while_away_is_told_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = alone(&dir).await;
    let b = empty(&dir, "b").await;
    join(&b, "b", &a).await.expect("b joins, without a vote");
    let (address, data) = (b.address, dir.path().join("b"));
    b.stop().await;
    a.node.remove(NodeId(2)).await.expect("b is taken out while it is away");
    let b = again("edge", address, &data).await;
    let text = b.node.write(group("late")).await.expect_err("it is no member").to_string();
    assert!(text.contains("no member") && text.contains("data directory"), "{text}");
    assert_eq!(a.node.refusals()["not_a_member"], 1);
    assert!(a.node.stale().group("late").is_none());
}
