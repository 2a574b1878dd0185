//! Messages of the lease protocol to and from their protobuf form.
//!
//! Decoding happens after authentication, so a failure here is a bug or another version, never an attack; it
//! is refused all the same, with the field's name.

use std::time::Duration;

use lockstep_model::ids::{Epoch, GroupId, LogIndex, NodeId};
use lockstep_ownership::identity::{BootId, Identity};
use lockstep_ownership::membership::LogId;
use lockstep_ownership::message::{
    Answer, Heard, Message, RefusalReason, Refused, Release, ReleaseAck, Reply, Report, Request, Tenure,
};
use lockstep_ownership::status::{Candidacy, Flows, Unfit};
use lockstep_proto::lease::v1 as pb;

/// [`Flows::Kept`] on the wire: behind by an unknown time, so that a version that does not know it ranks it rightly.
const KEPT: u64 = u64::MAX;

/// A field that is missing or not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("lease datagram: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn encode(message: &Message) -> pb::body::Message {
    match message {
        Message::Request(m) => pb::body::Message::Request(pb::Request {
            nonce: m.nonce,
            membership: Some(pb::LogId {
                term: m.membership.term,
                node: m.membership.leader.get(),
                index: m.membership.index.get(),
            }),
            duration_ns: nanos(m.duration),
            tenures: tenures(&m.tenures),
        }),
        Message::Reply(m) => pb::body::Message::Reply(pb::Reply {
            nonce: m.nonce,
            to: Some(run(m.to)),
            applied_index: m.applied.get(),
            answers: m.answers.iter().map(answer).collect(),
        }),
        Message::Release(m) => pb::body::Message::Release(pb::Release { tenures: tenures(&m.tenures) }),
        Message::ReleaseAck(m) => pb::body::Message::ReleaseAck(pb::ReleaseAck {
            to: Some(run(m.to)),
            tenures: tenures(&m.tenures),
        }),
        Message::Report(m) => pb::body::Message::Report(report(m)),
    }
}

/// `target`: the node that the datagram names as its receiver, which is who asked, if it is an answer.
pub(crate) fn decode(target: NodeId, message: pb::body::Message) -> Result<Message, Malformed> {
    Ok(match message {
        pb::body::Message::Request(m) => {
            let id = m.membership.ok_or(Malformed("request.membership: missing"))?;
            Message::Request(Request {
                nonce: m.nonce,
                membership: LogId { term: id.term, leader: NodeId(id.node), index: LogIndex(id.index) },
                duration: Duration::from_nanos(m.duration_ns),
                tenures: from_tenures(&m.tenures),
            })
        }
        pb::body::Message::Reply(m) => Message::Reply(Reply {
            to: from_run(target, m.to, "reply.to: a run with 16 bytes of boot id expected")?,
            nonce: m.nonce,
            applied: LogIndex(m.applied_index),
            answers: m.answers.into_iter().map(from_answer).collect::<Result<_, _>>()?,
        }),
        pb::body::Message::Release(m) => Message::Release(Release { tenures: from_tenures(&m.tenures) }),
        pb::body::Message::ReleaseAck(m) => Message::ReleaseAck(ReleaseAck {
            to: from_run(target, m.to, "release_ack.to: a run with 16 bytes of boot id expected")?,
            tenures: from_tenures(&m.tenures),
        }),
        pb::body::Message::Report(m) => Message::Report(from_report(m)?),
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn tenure(t: Tenure) -> pb::Tenure {
    pb::Tenure { group: t.group.get(), epoch: t.epoch.get() }
}

fn from_tenure(t: pb::Tenure) -> Tenure {
    Tenure { group: GroupId(t.group), epoch: Epoch(t.epoch) }
}

fn tenures(list: &[Tenure]) -> Vec<pb::Tenure> {
    list.iter().copied().map(tenure).collect()
}

fn from_tenures(list: &[pb::Tenure]) -> Vec<Tenure> {
    list.iter().copied().map(from_tenure).collect()
}

fn run(to: Identity) -> pb::Run {
    pb::Run { boot_id: to.boot.0.to_vec(), incarnation: to.incarnation }
}

fn from_run(node: NodeId, run: Option<pb::Run>, what: &'static str) -> Result<Identity, Malformed> {
    let run = run.ok_or(Malformed(what))?;
    let boot = BootId(run.boot_id.try_into().map_err(|_| Malformed(what))?);
    Ok(Identity { node, boot, incarnation: run.incarnation })
}

fn answer(answer: &Answer) -> pb::Answer {
    let (refused, floor) = match answer.outcome {
        Ok(()) => (pb::RefusalReason::Unspecified, 0),
        Err(refused) => (refusal(refused.reason), refused.floor.get()),
    };
    pb::Answer { tenure: Some(tenure(answer.tenure)), refused: refused.into(), floor }
}

fn from_answer(answer: pb::Answer) -> Result<Answer, Malformed> {
    let reason = match answer.refused() {
        // An unknown reason must not pass for a promise.
        pb::RefusalReason::Unspecified if answer.refused != 0 => {
            return Err(Malformed("answer.refused: unknown"));
        }
        pb::RefusalReason::Unspecified => None,
        pb::RefusalReason::BelowFloor => Some(RefusalReason::BelowFloor),
        pb::RefusalReason::Released => Some(RefusalReason::Released),
        pb::RefusalReason::OldMembership => Some(RefusalReason::OldMembership),
        pb::RefusalReason::NotAssignee => Some(RefusalReason::NotAssignee),
        pb::RefusalReason::Duration => Some(RefusalReason::Duration),
        pb::RefusalReason::TooManyGroups => Some(RefusalReason::TooManyGroups),
        pb::RefusalReason::AddressMoves => Some(RefusalReason::AddressMoves),
    };
    let floor = Epoch(answer.floor);
    let tenure = from_tenure(answer.tenure.ok_or(Malformed("answer.tenure: missing"))?);
    Ok(Answer { tenure, outcome: reason.map_or(Ok(()), |reason| Err(Refused { reason, floor })) })
}

fn refusal(reason: RefusalReason) -> pb::RefusalReason {
    match reason {
        RefusalReason::BelowFloor => pb::RefusalReason::BelowFloor,
        RefusalReason::Released => pb::RefusalReason::Released,
        RefusalReason::OldMembership => pb::RefusalReason::OldMembership,
        RefusalReason::NotAssignee => pb::RefusalReason::NotAssignee,
        RefusalReason::Duration => pb::RefusalReason::Duration,
        RefusalReason::TooManyGroups => pb::RefusalReason::TooManyGroups,
        RefusalReason::AddressMoves => pb::RefusalReason::AddressMoves,
    }
}

fn report(m: &Report) -> pb::Report {
    let heard =
        |h: &Heard| pb::Heard { tenure: Some(tenure(h.tenure)), hears: h.hears, age_ns: nanos(h.age) };
    pb::Report {
        applied_index: m.applied.get(),
        draining: m.draining,
        heard: m.heard.iter().map(heard).collect(),
        candidacies: m.candidacies.iter().map(candidacy).collect(),
        holding: tenures(&m.holding),
        released: tenures(&m.released),
        leadership_pinned_ns: nanos(m.leadership_pinned),
    }
}

fn from_report(m: pb::Report) -> Result<Report, Malformed> {
    let heard = |h: pb::Heard| {
        let tenure = from_tenure(h.tenure.ok_or(Malformed("heard.tenure: missing"))?);
        Ok(Heard { tenure, hears: h.hears, age: Duration::from_nanos(h.age_ns) })
    };
    Ok(Report {
        applied: LogIndex(m.applied_index),
        draining: m.draining,
        heard: m.heard.into_iter().map(heard).collect::<Result<_, Malformed>>()?,
        candidacies: m.candidacies.into_iter().map(from_candidacy).collect(),
        holding: from_tenures(&m.holding),
        released: from_tenures(&m.released),
        leadership_pinned: Duration::from_nanos(m.leadership_pinned_ns),
    })
}

fn candidacy(c: &Candidacy) -> pb::Candidacy {
    let unfit = match c.fitness {
        Ok(()) => pb::Unfit::Unspecified,
        Err(Unfit::Starting) => pb::Unfit::Starting,
        Err(Unfit::NoInterface) => pb::Unfit::NoInterface,
        Err(Unfit::CarrierLost) => pb::Unfit::CarrierLost,
        Err(Unfit::ProgramDetached) => pb::Unfit::ProgramDetached,
        Err(Unfit::IntentNotApplied) => pb::Unfit::IntentNotApplied,
        Err(Unfit::IntentStale) => pb::Unfit::IntentStale,
        Err(Unfit::EndpointsNotReached) => pb::Unfit::EndpointsNotReached,
        Err(Unfit::DiskFull) => pb::Unfit::DiskFull,
    };
    let flows = match c.flows {
        Flows::CaughtUp => Some(pb::candidacy::Flows::CaughtUp(true)),
        Flows::Silent(age) => Some(pb::candidacy::Flows::SilentNs(nanos(age))),
        Flows::Behind(age) => Some(pb::candidacy::Flows::BehindNs(nanos(age))),
        Flows::Kept => Some(pb::candidacy::Flows::BehindNs(KEPT)),
        Flows::Never => None,
    };
    pb::Candidacy { group: c.group.get(), unfit: unfit.into(), flows }
}

fn from_candidacy(c: pb::Candidacy) -> Candidacy {
    let fitness = match c.unfit() {
        // A reason that only a newer version knows is still a reason.
        pb::Unfit::Unspecified if c.unfit != 0 => Err(Unfit::IntentNotApplied),
        pb::Unfit::Unspecified => Ok(()),
        pb::Unfit::Starting => Err(Unfit::Starting),
        pb::Unfit::NoInterface => Err(Unfit::NoInterface),
        pb::Unfit::CarrierLost => Err(Unfit::CarrierLost),
        pb::Unfit::ProgramDetached => Err(Unfit::ProgramDetached),
        pb::Unfit::IntentNotApplied => Err(Unfit::IntentNotApplied),
        pb::Unfit::IntentStale => Err(Unfit::IntentStale),
        pb::Unfit::EndpointsNotReached => Err(Unfit::EndpointsNotReached),
        pb::Unfit::DiskFull => Err(Unfit::DiskFull),
    };
    let flows = match c.flows {
        Some(pb::candidacy::Flows::CaughtUp(true)) => Flows::CaughtUp,
        Some(pb::candidacy::Flows::SilentNs(age)) => Flows::Silent(Duration::from_nanos(age)),
        Some(pb::candidacy::Flows::BehindNs(KEPT)) => Flows::Kept,
        Some(pb::candidacy::Flows::BehindNs(age)) => Flows::Behind(Duration::from_nanos(age)),
        Some(pb::candidacy::Flows::CaughtUp(false)) | None => Flows::Never,
    };
    Candidacy { group: GroupId(c.group), fitness, flows }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Tenure = Tenure { group: GroupId(4), epoch: Epoch(9) };

    fn all() -> Vec<Message> {
        let to = Identity { node: NodeId(2), boot: BootId([3; 16]), incarnation: 77 };
        let refused = |reason| Answer { tenure: T, outcome: Err(Refused { reason, floor: Epoch(12) }) };
        let mut answers = vec![Answer { tenure: T, outcome: Ok(()) }];
        answers.extend(RefusalReason::ALL.map(refused));
        let five = Duration::from_millis(5);
        let flows = [Flows::CaughtUp, Flows::Silent(five), Flows::Behind(five), Flows::Kept, Flows::Never];
        let mut candidacies =
            flows.map(|flows| Candidacy { group: GroupId(4), fitness: Ok(()), flows }).to_vec();
        let unfit = |u| Candidacy { group: GroupId(4), fitness: Err(u), flows: Flows::CaughtUp };
        candidacies.extend(Unfit::ALL.map(unfit));
        vec![
            Message::Request(Request {
                nonce: 5,
                membership: LogId { term: 3, leader: NodeId(1), index: LogIndex(8) },
                duration: Duration::from_millis(45),
                tenures: vec![T],
            }),
            Message::Reply(Reply { to, nonce: 5, applied: LogIndex(10), answers }),
            Message::Release(Release { tenures: vec![T, T] }),
            Message::ReleaseAck(ReleaseAck { to, tenures: vec![T] }),
            Message::Report(Report {
                applied: LogIndex(10),
                draining: true,
                heard: vec![Heard { tenure: T, hears: true, age: Duration::from_micros(3) }],
                candidacies,
                holding: vec![T],
                released: vec![T],
                leadership_pinned: Duration::from_secs(3),
            }),
        ]
    }

    #[test]
    fn every_message_survives_the_wire() {
        for message in all() {
            assert_eq!(decode(NodeId(2), encode(&message)), Ok(message));
        }
    }

    #[test]
    fn an_unknown_refusal_is_no_promise() {
        let answer = pb::Answer { tenure: Some(tenure(T)), refused: 99, floor: 0 };
        assert!(from_answer(answer).is_err());
        assert!(from_run(NodeId(1), Some(pb::Run { boot_id: vec![1; 15], incarnation: 1 }), "x").is_err());
    }
}
