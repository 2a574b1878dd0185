//! Three nodes over real gRPC on the loopback interface, with real files: forming, forwarding, refusing.

mod daemon;
mod full;
mod membership;
mod snapshot;

use std::net::{Ipv4Addr, SocketAddr};

use daemon::{Cluster, Daemon, group, listener, open_again, rebind, spec, three, three_with};
use lockstep_model::command::{Change, Command};
use lockstep_model::ids::NodeId;
use lockstep_model::intent::{
    Algorithm, EndpointSpec, EndpointState, Mode, OnMiss, PortRange, ServiceSpec, SyncPolicy,
};
use lockstep_model::protocol::Protocol;
use lockstep_model::state::Applied;
use lockstep_proto::raft::v1 as pb;
use lockstep_proto::raft::v1::cluster_client::ClusterClient;
use lockstep_proto::raft::v1::raft_client::RaftClient;
use lockstep_raft_store::config::{Compaction, SNAPSHOT_CHUNK};
use lockstep_raft_store::replica::ReplicaOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_forms_once_and_serves_writes_and_reads_anywhere() {
    let cluster = three(["edge"; 3]).await;
    let [a, b, c] = &cluster.daemons[..] else { panic!("three nodes") };
    assert_eq!(a.node.write(group("early")).await.expect_err("no cluster yet").kind(), "not_initialized");

    let formed = a.node.init().await.expect("three empty nodes form a cluster");
    assert_eq!(formed.nodes.len(), 3);
    for (daemon, id) in [(a, 1), (b, 2), (c, 3)] {
        let identity = daemon.node.joined().await;
        assert_eq!((identity.cluster_id, identity.node), (formed.cluster_id, NodeId(id)));
        daemon.node.register(spec(&format!("n{id}"), daemon.address)).await.expect("a node registers itself");
    }
    // Whoever leads: two of these three are forwarded.
    for (i, daemon) in [a, b, c].into_iter().enumerate() {
        let applied = daemon.node.write(group(&format!("g{i}"))).await.expect("a write through any node");
        assert!(matches!(applied, Applied::Changed { .. }), "{applied:?}");
        for reader in [a, b, c] {
            let state = reader.node.read().await.expect("a read through any node");
            assert_eq!(state.groups.len(), i + 1, "every acknowledged write is read everywhere");
            assert_eq!(state.nodes.len(), 3);
        }
    }
    for daemon in [a, b] {
        let again = daemon.node.init().await.expect_err("a second init");
        assert_eq!(again.kind(), "already_initialized");
        assert!(again.to_string().contains("\"edge\""), "{again}");
    }
    let leader = a.node.leader().expect("a leader was elected");
    let to = NodeId(leader.get() % 3 + 1);
    b.node.transfer_leader(to).await.expect("leadership moves");
    c.until("the new leader is known", |m| m.leader == Some(to)).await;
    assert_eq!(a.node.transfer_leader(NodeId(9)).await.expect_err("no such voter").kind(), "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_acknowledged_writes_survive_a_restart_of_all() {
    let Cluster { daemons, dir } = three(["edge"; 3]).await;
    daemons[0].node.init().await.expect("a cluster");
    for i in 0..20 {
        daemons[i % 3].node.write(group(&format!("g{i}"))).await.expect("a write");
    }
    daemons[1].node.snapshot().await.expect("a snapshot is begun");
    let before = daemons[2].node.read().await.expect("a read");
    let addresses: Vec<SocketAddr> = daemons.iter().map(|d| d.address).collect();
    let ends: Vec<u64> = daemons.iter().map(|d| d.node.metrics().last_log).collect();
    for daemon in daemons {
        daemon.stop().await;
    }
    let mut daemons = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        let listener = rebind(*address).await;
        let data = dir.path().join(i.to_string());
        daemons.push(open_again(ReplicaOptions::default(), listener, &addresses, &data).await);
        // Known before Raft has said anything; a leader elected meanwhile may have made it longer.
        let found = daemons[i].node.found();
        assert!(found.get() >= ends[i], "node {i}: found {found}, there was {}", ends[i]);
    }
    for daemon in &daemons {
        assert_eq!(*daemon.node.read().await.expect("a read after the restart"), *before);
    }
}

/// A service that takes some ten kilobytes in a snapshot.
fn large(i: u16) -> Command {
    let endpoints = (1..=1024).map(|port| EndpointSpec {
        address: (Ipv4Addr::new(10, 0, (i >> 8) as u8, i as u8), port).into(),
        weight: 1,
        state: EndpointState::Active,
        backup: false,
    });
    let spec = ServiceSpec {
        name: format!("s{i}"),
        group: "edge".to_owned(),
        vip: vec![Ipv4Addr::new(192, 0, 2, 10).into()],
        port: PortRange::single(1000 + i),
        protocol: vec![Protocol::Tcp],
        algorithm: Algorithm::Maglev,
        affinity: None,
        mode: Mode::Nat,
        snat_pool: Vec::new(),
        timeouts: Default::default(),
        sync: SyncPolicy::Immediate,
        on_miss: OnMiss::Drop,
        sources: Vec::new(),
        limits: Default::default(),
        slow_start: None,
        health: None,
        endpoints: endpoints.collect(),
    };
    Command::Change { expected: None, changes: vec![Change::UpsertService(spec)] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_many_chunks_reaches_a_node_that_was_away() {
    let compaction = Compaction { snapshot_every: 20, kept_entries: 2 };
    let options = ReplicaOptions { compaction, ..ReplicaOptions::default() };
    let Cluster { mut daemons, dir } = three_with(["edge"; 3], options).await;
    daemons[0].node.init().await.expect("a cluster");
    daemons[0].node.write(group("edge")).await.expect("a group");
    let addresses: Vec<SocketAddr> = daemons.iter().map(|d| d.address).collect();
    daemons.pop().expect("three nodes").stop().await;
    for i in 0..80 {
        let applied = daemons[0].node.write(large(i)).await.expect("two of three are a majority");
        assert!(matches!(applied, Applied::Changed { .. }), "{applied:?}");
    }
    for daemon in &daemons {
        daemon.until("the log is purged", |m| m.purged > 40).await;
    }
    let listener = rebind(addresses[2]).await;
    let late = open_again(options, listener, &addresses, &dir.path().join("2")).await;
    assert_eq!(*late.node.read().await.expect("a read"), *daemons[0].node.stale());
    assert!(late.node.metrics().snapshot > 40, "{:?}", late.node.metrics());
    let files = std::fs::read_dir(dir.path().join("2/snapshots")).expect("a directory of snapshots");
    let largest = files.map(|f| f.expect("a name").metadata().expect("a size").len()).max();
    assert!(largest > Some(SNAPSHOT_CHUNK as u64), "more than one chunk: {largest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_the_leaders_end_costs_an_election_and_no_write() {
    let Cluster { mut daemons, dir: _dir } = three(["edge"; 3]).await;
    daemons[0].node.init().await.expect("a cluster");
    for i in 0..5 {
        daemons[0].node.write(group(&format!("g{i}"))).await.expect("a write");
    }
    let leader = daemons[0].node.leader().expect("a leader");
    let dead =
        daemons.iter().position(|d| d.node.identity().map(|i| i.node) == Some(leader)).expect("one of three");
    daemons.remove(dead).stop().await;
    // One of them is forwarded, through an election if need be.
    for (i, daemon) in daemons.iter().enumerate() {
        daemon.node.write(group(&format!("late{i}"))).await.expect("two of three are a majority");
    }
    for daemon in &daemons {
        assert_eq!(daemon.node.read().await.expect("a read").groups.len(), 7);
    }
    let left = daemons.remove(0);
    left.stop().await;
    let error = daemons[0].node.read().await.expect_err("one of three is no majority");
    assert_eq!(error.kind(), "no_leader", "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_failed_halfway_can_be_repeated() {
    let cluster = three(["edge"; 3]).await;
    let [a, b, c] = &cluster.daemons[..] else { panic!("three nodes") };
    let mut client = ClusterClient::connect(format!("http://{}", b.address)).await.expect("connects");
    let abandoned = pb::AdoptRequest { cluster_name: "edge".into(), cluster_id: vec![1; 16], node_id: 3 };
    client.adopt(abandoned.clone()).await.expect("an empty node can be adopted");
    client.adopt(abandoned.clone()).await.expect("and told the same again");
    let formed = a.node.init().await.expect("nothing was ever written under the other id");
    for daemon in [a, b, c] {
        assert_eq!(daemon.node.joined().await.cluster_id, formed.cluster_id);
        daemon.node.write(group("edge")).await.expect("every node is part of it");
    }
    let status = client.adopt(abandoned).await.expect_err("now it has data");
    assert!(status.message().contains(&formed.cluster_id.to_string()), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_refuses_peers_that_do_not_fit() {
    let cluster = three(["edge", "edge", "other"]).await;
    let [a, b, c] = &cluster.daemons[..] else { panic!("three nodes") };
    let error = a.node.init().await.expect_err("another cluster's name");
    assert_eq!(error.kind(), "refused");
    let text = error.to_string();
    assert!(
        text.contains(&c.address.to_string()) && text.contains("\"other\"") && text.contains("\"edge\""),
        "{text}"
    );
    assert!(a.node.identity().is_none() && b.node.identity().is_none(), "nothing was changed");
    c.server.abort();
    let free = listener().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let unreachable = free.local_addr().expect("bound");
    drop(free);
    let lone =
        Daemon::start("edge", listener().await, &[unreachable], &dir.path().join("d")).await.expect("starts");
    let text = lone.node.init().await.expect_err("a peer that is not there").to_string();
    assert!(text.contains(&unreachable.to_string()) && text.contains("not reachable"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_clusters_node_is_refused_and_counted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start("edge", listener().await, &[], &dir.path().join("d")).await.expect("starts");
    daemon.node.init().await.expect("a cluster of one");
    let before = daemon.node.metrics();
    let mut client = RaftClient::connect(format!("http://{}", daemon.address)).await.expect("connects");
    let header = |cluster_id: Vec<u8>, target| Some(pb::Header { cluster_id, sender: 7, target });
    let vote =
        Some(pb::VoteState { leader_id: Some(pb::LeaderId { term: 99, node_id: 7 }), committed: true });
    let foreign = pb::VoteRequest { header: header(vec![1; 16], 1), vote, ..Default::default() };
    let status = client.vote(foreign).await.expect_err("a foreign cluster");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let ours = daemon.node.identity().expect("a member").cluster_id;
    assert!(
        status.message().contains(&ours.to_string()) && status.message().contains(&"01".repeat(16)),
        "{status}"
    );
    let misdirected =
        pb::AppendEntriesRequest { header: header(ours.to_vec(), 2), vote, ..Default::default() };
    let status = client.append_entries(misdirected).await.expect_err("another node's message");
    assert!(status.message().contains("node 2") && status.message().contains("node 1"), "{status}");
    let refusals = daemon.node.refusals();
    assert_eq!((refusals["foreign_cluster"], refusals["wrong_target"]), (1, 1));
    assert_eq!(daemon.node.metrics().term, before.term, "the refused vote changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_is_used_by_one_daemon_of_its_own_cluster() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("d");
    let daemon = Daemon::start("edge", listener().await, &[], &data).await.expect("starts");
    daemon.node.init().await.expect("a cluster of one");
    let second = Daemon::start("edge", listener().await, &[], &data).await.err().expect("a second daemon");
    assert_eq!(second.kind(), "locked");
    assert!(second.to_string().contains("lock") && second.to_string().contains("one daemon"), "{second}");
    daemon.stop().await;
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).expect("a directory");
    std::fs::copy(data.join("identity"), copy.join("identity")).expect("an identity");
    let foreign =
        Daemon::start("other", listener().await, &[], &copy).await.err().expect("another cluster's data");
    assert_eq!(foreign.kind(), "foreign");
    let missing = Daemon::start("edge", listener().await, &[], &dir.path().join("no/such")).await;
    let text = missing.err().expect("no parent").to_string();
    assert!(text.contains("no/such"), "{text}");
}
