//! A disk that is full, and has space again, under a running node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lockstep_raft_store::RaftError;
use lockstep_raft_store::fs::sim::SimFs;
use lockstep_raft_store::observer::{LogObserver, NoObserver, Observed};
use lockstep_raft_store::replica::ReplicaOptions;

use crate::daemon::{Daemon, group, listener};

/// Less than any record.
const NOTHING: Option<usize> = Some(10);

/// Nodes that form a cluster, each with a disk of its own.
async fn cluster(disks: &[SimFs], observer: Arc<dyn LogObserver>) -> Vec<Daemon> {
    let mut listeners = Vec::new();
    for _ in disks {
        listeners.push(listener().await);
    }
    let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
    let mut daemons = Vec::new();
    for (disk, listener) in disks.iter().zip(listeners) {
        let (fs, observer) = (Arc::new(disk.clone()), observer.clone());
        let options = ReplicaOptions::default();
        let started =
            Daemon::on(fs, observer, options, "edge", listener, &addresses, Path::new("data")).await;
        daemons.push(started.expect("an empty node starts"));
    }
    daemons[0].node.init().await.expect("a cluster");
    daemons
}

async fn until_full(daemon: &Daemon) {
    daemon.until("it has stopped", |m| m.stopped.is_some()).await;
}

async fn until_resumed(daemon: &Daemon) {
    let resumed = || daemon.node.store_counts()["resumed"] == 1;
    daemon.until("it goes on", |m| resumed() && m.stopped.is_none() && m.leader.is_some()).await;
    assert_eq!(daemon.node.disk_full(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_full_disk_refuses_writes_and_goes_on_when_there_is_space() {
    let disks = [SimFs::new()];
    let daemons = cluster(&disks, Arc::new(NoObserver)).await;
    let only = &daemons[0].node;
    for i in 0..5 {
        only.write(group(&format!("g{i}"))).await.expect("a write");
    }
    let before = only.read().await.expect("a read");
    disks[0].set_free(NOTHING);
    let refused = only.write(group("refused")).await.expect_err("there is no space");
    assert!(matches!(&refused, RaftError::DiskFull(full) if full.free_bytes < 10), "{refused:?}");
    assert!(refused.to_string().starts_with("data: the disk is full"), "{refused}");
    for again in [only.write(group("again")).await.map(drop), only.read().await.map(drop)] {
        assert_eq!(again.expect_err("still none").kind(), "disk_full");
    }
    assert_eq!(only.stale(), before, "it knows what it knew");
    let noticed = async {
        while only.disk_full().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), noticed).await.expect("a full disk is shown");
    let mut states = only.watch();
    let was = states.borrow_and_update().applied;

    disks[0].set_free(None);
    until_resumed(&daemons[0]).await;
    only.write(group("later")).await.expect("there is space");
    let after = only.read().await.expect("a read");
    let names: Vec<_> = after.groups.values().map(|g| g.spec.name.as_str()).collect();
    // The first one that was refused may have been written: nobody was told that it had failed for good.
    assert!(names[..5] == ["g0", "g1", "g2", "g3", "g4"] && names.ends_with(&["later"]), "{names:?}");
    assert!(!names.contains(&"again"), "{names:?}");
    assert!(states.borrow_and_update().applied > was);
    assert_eq!(only.store_counts().into_iter().collect::<Vec<_>>(), [("disk_full", 1), ("resumed", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_leader_whose_disk_is_full_is_replaced_and_catches_up() {
    let disks = [SimFs::new(), SimFs::new(), SimFs::new()];
    let daemons = cluster(&disks, Arc::new(NoObserver)).await;
    daemons[1].node.write(group("before")).await.expect("a write");
    let leader = daemons[1].node.leader().expect("it has led the write").get() as usize - 1;
    // The state that others see must never go back.
    let mut states = daemons[leader].node.watch();
    let back = tokio::spawn(async move {
        let mut last = states.borrow_and_update().applied;
        while states.changed().await.is_ok() {
            let now = states.borrow_and_update().applied;
            if now < last {
                return true;
            }
            last = now;
        }
        false
    });
    disks[leader].set_free(NOTHING);
    // Whoever leads then acknowledges it, or nobody does.
    let _unknown = daemons[leader].node.write(group("lost?")).await;
    until_full(&daemons[leader]).await;
    let other = &daemons[(leader + 1) % 3];
    other.until("another leads", |m| m.leader.is_some_and(|id| id.get() as usize - 1 != leader)).await;
    other.node.write(group("without it")).await.expect("two of three write");

    disks[leader].set_free(None);
    until_resumed(&daemons[leader]).await;
    let all = other.node.read().await.expect("a read");
    assert_eq!(daemons[leader].node.read().await.expect("it has caught up"), all);
    for daemon in daemons {
        daemon.stop().await;
    }
    assert!(!back.await.expect("no panic"), "the state went back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_node_that_is_shut_down_while_its_disk_is_full_stays_down() {
    let disks = [SimFs::new()];
    let mut daemons = cluster(&disks, Arc::new(NoObserver)).await;
    disks[0].set_free(NOTHING);
    daemons[0].node.write(group("refused")).await.expect_err("there is no space");
    let daemon = daemons.remove(0);
    let node = daemon.node.clone();
    daemon.stop().await;
    disks[0].set_free(None);
    tokio::time::sleep(3 * lockstep_raft_store::config::RESUME_LOOK).await;
    assert_eq!(node.store_counts()["resumed"], 0);
}

/// Everything it was told, in order; `None`: a truncation.
#[derive(Default)]
struct Told(Mutex<Vec<Option<u64>>>);

impl LogObserver for Told {
    fn appended(&self, index: u64, _: &Observed) {
        self.0.lock().expect("no panic").push(Some(index));
    }

    fn truncated(&self, _: Option<u64>) {
        self.0.lock().expect("no panic").push(None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_store_that_goes_on_tells_nothing_twice_and_takes_back_what_is_gone() {
    let (disks, told) = ([SimFs::new()], Arc::new(Told::default()));
    let daemons = cluster(&disks, told.clone()).await;
    let only = &daemons[0].node;
    only.write(lockstep_model::command::Command::Change {
        expected: None,
        changes: vec![lockstep_model::command::Change::DeleteGroup("none".into())],
    })
    .await
    .expect("an answer");
    let before = told.0.lock().expect("no panic").clone();
    assert!(before.len() > 1, "{before:?}");
    disks[0].set_free(NOTHING);
    let delete = lockstep_model::command::Change::DeleteGroup("refused".into());
    let refused = lockstep_model::command::Command::Change { expected: None, changes: vec![delete] };
    only.write(refused).await.expect_err("there is no space");
    disks[0].set_free(None);
    until_resumed(&daemons[0]).await;
    let after = told.0.lock().expect("no panic").clone();
    let news = &after[before.len()..];
    // It was told of the entry when it was about to be written, and the disk does not have it.
    assert!(matches!(news, [Some(_), None]), "{before:?} then {news:?}");
}
