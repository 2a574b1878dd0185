//! Between the cores' messages and protobuf.

use lockstep_model::flow::SHARDS;
use lockstep_model::ids::{Epoch, GroupId, LogIndex};
use lockstep_proto::sync::v1 as pb;
use lockstep_sync_core::audit::{MAX_BITS, RoundId, Sums, Suspect};
use lockstep_sync_core::{Down, Nack, NackReason, Purpose, Session, Up, WalkId};

use crate::event::Identity;
use crate::record::{RecordError, RecordVersions, decode, encode};

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A part is missing, or has a value that means nothing.
    #[error("{0}")]
    Field(&'static str),
    /// The records of a batch.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// For the wire. A Hello carries who says it.
pub fn up_to_proto(identity: Identity, shard: u8, message: Up) -> pb::Up {
    use pb::up::Message;
    let message = match message {
        Up::Hello { session, position, credit, audits, removes } => Message::Hello(pb::Hello {
            removes,
            cluster_id: identity.cluster.to_vec(),
            node: identity.node.get(),
            shard: shard.into(),
            shards: SHARDS.into(),
            session: session.map_or(Vec::new(), |session| session.0.to_vec()),
            position,
            record_version: identity.records.newest,
            oldest_record_version: identity.records.oldest,
            credit,
            audits,
        }),
        Up::AuditReady { round } => Message::AuditReady(pb::AuditReady { round: round.0 }),
        Up::AuditResult { round, suspects } => {
            Message::AuditResult(pb::AuditResult { round: round.0, suspects: suspects_to_proto(suspects) })
        }
        Up::Ack { position, nacks, credit } => {
            let nacks = nacks.into_iter().map(|nack| pb::Nack {
                position: nack.position,
                reason: reason_to_proto(nack.reason).into(),
            });
            Message::Ack(pb::Ack { position, nacks: nacks.collect(), credit })
        }
    };
    pb::Up { message: Some(message) }
}

/// From the wire. Who says Hello is for the caller to check.
pub fn up_from_proto(message: pb::Up) -> Result<Up, WireError> {
    match message.message.ok_or(WireError::Field("a message without content"))? {
        pb::up::Message::Hello(hello) => {
            let session = match hello.session.len() {
                0 => None,
                _ => Some(session(&hello.session)?),
            };
            let (position, credit, audits) = (hello.position, hello.credit, hello.audits);
            Ok(Up::Hello { session, position, credit, audits, removes: hello.removes })
        }
        pb::up::Message::AuditReady(ready) => Ok(Up::AuditReady { round: RoundId(ready.round) }),
        pb::up::Message::AuditResult(result) => Ok(Up::AuditResult {
            round: RoundId(result.round),
            suspects: suspects_from_proto(result.suspects)?,
        }),
        pb::up::Message::Ack(ack) => {
            let nacks = ack
                .nacks
                .into_iter()
                .map(|nack| Ok(Nack { position: nack.position, reason: reason_from_proto(nack.reason())? }));
            Ok(Up::Ack {
                position: ack.position,
                nacks: nacks.collect::<Result<_, WireError>>()?,
                credit: ack.credit,
            })
        }
    }
}

/// What a subscriber understands.
pub(crate) fn versions_of(hello: &pb::Hello) -> RecordVersions {
    let newest = hello.record_version;
    let oldest = if hello.oldest_record_version == 0 { newest } else { hello.oldest_record_version };
    RecordVersions { oldest, newest }
}

/// For the wire, with records of `version`.
pub fn down_to_proto(identity: Identity, shard: u8, version: u32, message: Down) -> pb::Down {
    use pb::down::Message;
    let shard = u32::from(shard);
    let message = match message {
        Down::Welcome { session, resumed, position } => Message::Welcome(pb::Welcome {
            session: session.0.to_vec(),
            resumed,
            origin: identity.node.get(),
            record_version: version,
            position,
        }),
        Down::Batch { group, epoch, position, changes } => Message::Batch(pb::Batch {
            group: group.get(),
            epoch: epoch.get(),
            shard,
            position,
            record_version: version,
            count: changes.len() as u32,
            records: encode(version, &changes),
        }),
        Down::WalkBegin { group, epoch, walk, purpose, position } => Message::WalkBegin(pb::WalkBegin {
            group: group.get(),
            epoch: epoch.get(),
            shard,
            walk: walk.0,
            position,
            since: match purpose {
                Purpose::Hold(since) | Purpose::Remove(since) => since.get(),
            },
            remove: !purpose.mentions(),
        }),
        Down::WalkEnd { group, epoch, walk, position } => Message::WalkEnd(pb::WalkEnd {
            group: group.get(),
            epoch: epoch.get(),
            shard,
            walk: walk.0,
            position,
        }),
        Down::AuditBegin { round, shards, position } => {
            Message::AuditBegin(pb::AuditBegin { round: round.0, shards, position })
        }
        Down::AuditEnd { round, position } => Message::AuditEnd(pb::AuditEnd { round: round.0, position }),
        Down::AuditSums { round, sums } => Message::AuditSums(pb::AuditSums {
            round: round.0,
            group: sums.group.get(),
            epoch: sums.epoch.get(),
            bits: sums.bits.into(),
            sums: sums.sums,
        }),
        Down::AuditRecords { round, group, changes } => Message::AuditRecords(pb::AuditRecords {
            round: round.0,
            group: group.get(),
            record_version: version,
            count: changes.len() as u32,
            records: encode(version, &changes),
        }),
        Down::AuditSaid { round, suspects } => {
            Message::AuditSaid(pb::AuditSaid { round: round.0, suspects: suspects_to_proto(suspects) })
        }
        Down::Heartbeat { position, owned } => {
            let owned = owned
                .into_iter()
                .map(|(group, epoch)| pb::OwnedGroup { group: group.get(), epoch: epoch.get() });
            Message::Heartbeat(pb::Heartbeat { position, owned: owned.collect() })
        }
    };
    pb::Down { message: Some(message) }
}

/// From the wire, on the stream of `shard` to `origin`, with records of the versions that were asked for.
pub fn down_from_proto(
    known: RecordVersions,
    origin: u64,
    shard: u8,
    message: pb::Down,
) -> Result<Down, WireError> {
    let wrong_shard = |other: u32| other != u32::from(shard);
    match message.message.ok_or(WireError::Field("a message without content"))? {
        pb::down::Message::Welcome(welcome) => {
            if welcome.origin != origin {
                return Err(WireError::Field("another node answered than the one that was called"));
            }
            if !known.contain(welcome.record_version) {
                return Err(RecordError::Version(welcome.record_version).into());
            }
            let session = session(&welcome.session)?;
            Ok(Down::Welcome { session, resumed: welcome.resumed, position: welcome.position })
        }
        pb::down::Message::Batch(batch) if !wrong_shard(batch.shard) => {
            let group = GroupId(batch.group);
            let changes = decode(batch.record_version, group, batch.count, &batch.records)?;
            Ok(Down::Batch { group, epoch: Epoch(batch.epoch), position: batch.position, changes })
        }
        pb::down::Message::WalkBegin(begin) if !wrong_shard(begin.shard) => Ok(Down::WalkBegin {
            group: GroupId(begin.group),
            epoch: Epoch(begin.epoch),
            walk: WalkId(begin.walk),
            purpose: match (begin.remove, LogIndex(begin.since)) {
                (true, as_of) => Purpose::Remove(as_of),
                (false, since) => Purpose::Hold(since),
            },
            position: begin.position,
        }),
        pb::down::Message::WalkEnd(end) if !wrong_shard(end.shard) => Ok(Down::WalkEnd {
            group: GroupId(end.group),
            epoch: Epoch(end.epoch),
            walk: WalkId(end.walk),
            position: end.position,
        }),
        pb::down::Message::AuditBegin(begin) => Ok(Down::AuditBegin {
            round: RoundId(begin.round),
            shards: begin.shards,
            position: begin.position,
        }),
        pb::down::Message::AuditEnd(end) => {
            Ok(Down::AuditEnd { round: RoundId(end.round), position: end.position })
        }
        pb::down::Message::AuditSums(said) => Ok(Down::AuditSums {
            round: RoundId(said.round),
            sums: Sums {
                group: GroupId(said.group),
                epoch: Epoch(said.epoch),
                bits: bits(said.bits)?,
                sums: said.sums,
            },
        }),
        pb::down::Message::AuditRecords(said) => {
            let group = GroupId(said.group);
            let changes = decode(said.record_version, group, said.count, &said.records)?;
            Ok(Down::AuditRecords { round: RoundId(said.round), group, changes })
        }
        pb::down::Message::AuditSaid(said) => {
            Ok(Down::AuditSaid { round: RoundId(said.round), suspects: suspects_from_proto(said.suspects)? })
        }
        pb::down::Message::Heartbeat(beat) => {
            let owned = beat.owned.into_iter().map(|owned| (GroupId(owned.group), Epoch(owned.epoch)));
            Ok(Down::Heartbeat { position: beat.position, owned: owned.collect() })
        }
        _ => Err(WireError::Field("a message of another shard")),
    }
}

fn suspects_to_proto(suspects: Vec<Suspect>) -> Vec<pb::Suspect> {
    let one = |s: Suspect| pb::Suspect { group: s.group.get(), bits: s.bits.into(), prefix: s.prefix };
    suspects.into_iter().map(one).collect()
}

fn suspects_from_proto(suspects: Vec<pb::Suspect>) -> Result<Vec<Suspect>, WireError> {
    let one = |s: pb::Suspect| Ok(Suspect { group: GroupId(s.group), bits: bits(s.bits)?, prefix: s.prefix });
    suspects.into_iter().map(one).collect()
}

fn bits(bits: u32) -> Result<u8, WireError> {
    let bits = u8::try_from(bits).ok().filter(|bits| *bits <= MAX_BITS);
    bits.ok_or(WireError::Field("more buckets of a digest than there may be"))
}

fn session(bytes: &[u8]) -> Result<Session, WireError> {
    bytes.try_into().map(Session).map_err(|_| WireError::Field("a session that is not 16 bytes"))
}

fn reason_to_proto(reason: NackReason) -> pb::NackReason {
    match reason {
        NackReason::Full => pb::NackReason::Full,
        NackReason::UnknownGroup => pb::NackReason::UnknownGroup,
        NackReason::Failed => pb::NackReason::Failed,
        NackReason::OldEpoch => pb::NackReason::OldEpoch,
        NackReason::Outdated => pb::NackReason::Outdated,
    }
}

fn reason_from_proto(reason: pb::NackReason) -> Result<NackReason, WireError> {
    match reason {
        pb::NackReason::Full => Ok(NackReason::Full),
        pb::NackReason::UnknownGroup => Ok(NackReason::UnknownGroup),
        pb::NackReason::Failed => Ok(NackReason::Failed),
        pb::NackReason::OldEpoch => Ok(NackReason::OldEpoch),
        pb::NackReason::Outdated => Ok(NackReason::Outdated),
        pb::NackReason::Unspecified => Err(WireError::Field("a refusal without a reason")),
    }
}
