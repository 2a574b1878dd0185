//! A snapshot that comes in pieces: what is not as its header says is refused before Raft hears of it.

use lockstep_proto::raft::v1 as pb;
use lockstep_proto::raft::v1::install_snapshot_request::Part;
use lockstep_proto::raft::v1::raft_client::RaftClient;
use lockstep_raft_store::config::{MAX_SNAPSHOT, SNAPSHOT_CHUNK};

use crate::daemon::{Daemon, group, listener};

fn header(cluster_id: Vec<u8>, data: &[u8]) -> pb::SnapshotHeader {
    let leader_id = Some(pb::LeaderId { term: 99, node_id: 7 });
    pb::SnapshotHeader {
        header: Some(pb::Header { cluster_id, sender: 7, target: 1 }),
        vote: Some(pb::VoteState { leader_id, committed: true }),
        meta: Some(pb::SnapshotMeta {
            last_log_id: Some(pb::LogId { leader_id, index: 900 }),
            last_membership: None,
        }),
        length: data.len() as u64,
        crc32c: crc32c::crc32c(data),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_snapshot_that_is_not_what_its_header_says_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start("edge", listener().await, &[], &dir.path().join("d")).await.expect("starts");
    daemon.node.init().await.expect("a cluster of one");
    daemon.node.write(group("kept")).await.expect("a write");
    let before = daemon.node.metrics();
    let id = daemon.node.identity().expect("a member").cluster_id.to_vec();
    let data = vec![7; SNAPSHOT_CHUNK + 1];
    let (whole, half) = (header(id.clone(), &data), &data[..data.len() / 2]);
    let damaged = pb::SnapshotHeader { crc32c: whole.crc32c ^ 1, ..whole.clone() };
    let huge = pb::SnapshotHeader { length: MAX_SNAPSHOT as u64 + 1, ..whole.clone() };
    let halves = || vec![Part::Data(half.to_vec()), Part::Data(data[half.len()..].to_vec())];
    let with =
        |header: &pb::SnapshotHeader, parts: Vec<Part>| [vec![Part::Header(header.clone())], parts].concat();
    let cases = [
        ("a chunk that is too large", with(&whole, vec![Part::Data(data.clone())]), "allowed: 1048576"),
        ("more than was said", with(&whole, [halves(), halves()].concat()), "longer than its header says"),
        ("less than was said", with(&whole, vec![Part::Data(half.to_vec())]), "not what its header says"),
        ("another checksum", with(&damaged, halves()), "not what its header says"),
        ("what is no snapshot", with(&whole, halves()), ""),
        ("a size out of bounds", with(&huge, Vec::new()), "allowed: 268435456"),
        ("no header", halves(), "begins with its header"),
        ("two headers", with(&whole, vec![Part::Header(whole.clone())]), "has one header"),
    ];
    let mut client = RaftClient::connect(format!("http://{}", daemon.address)).await.expect("connects");
    for (i, (what, parts, says)) in cases.into_iter().enumerate() {
        let messages: Vec<_> =
            parts.into_iter().map(|part| pb::InstallSnapshotRequest { part: Some(part) }).collect();
        let answer = client.install_snapshot(futures::stream::iter(messages)).await;
        let status = answer.expect_err(what);
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{what}: {status}");
        assert!(status.message().contains(says), "{what}: {status}");
        assert_eq!(daemon.node.refusals()["malformed"], i as u64 + 1, "{what}");
    }
    let foreign = pb::InstallSnapshotRequest { part: Some(Part::Header(header(vec![1; 16], &data))) };
    let status = client.install_snapshot(futures::stream::iter([foreign])).await.expect_err("foreign");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    daemon.node.write(group("later")).await.expect("nothing has changed");
    let after = daemon.node.metrics();
    assert_eq!((after.term, after.snapshot, after.last_log), (before.term, 0, before.last_log + 1));
}
