//! Raft's requests and answers.

use lockstep_proto::convert::ConvertError;
use lockstep_proto::raft::v1 as pb;
use openraft::AsyncRuntime;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::{entry_from, log_id, missing, optional_log_id, required_vote, vote};
use crate::types::Types;

pub(crate) fn append_request_from<RT: AsyncRuntime>(
    message: pb::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<Types<RT>>, ConvertError> {
    let entries = message.entries.into_iter().enumerate();
    let entries = entries.map(|(i, e)| entry_from(e).map_err(|e| e.within(format!("entries[{i}]"))));
    Ok(AppendEntriesRequest {
        vote: required_vote("vote", message.vote)?,
        prev_log_id: optional_log_id("prev_log_id", message.prev_log_id)?,
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: optional_log_id("leader_commit", message.leader_commit)?,
    })
}

pub(crate) fn append_response<RT: AsyncRuntime>(
    answer: &AppendEntriesResponse<Types<RT>>,
) -> pb::AppendEntriesResponse {
    use pb::append_entries_response::{AppendConflict, Outcome, PartialSuccess, Success};
    let outcome = match answer {
        AppendEntriesResponse::Success => Outcome::Success(Success {}),
        AppendEntriesResponse::PartialSuccess(matching) => {
            Outcome::PartialSuccess(PartialSuccess { matching: matching.as_ref().map(log_id) })
        }
        AppendEntriesResponse::Conflict => Outcome::Conflict(AppendConflict {}),
        AppendEntriesResponse::HigherVote(v) => Outcome::HigherVote(vote(v)),
    };
    pb::AppendEntriesResponse { outcome: Some(outcome) }
}

pub(crate) fn append_response_from<RT: AsyncRuntime>(
    answer: pb::AppendEntriesResponse,
) -> Result<AppendEntriesResponse<Types<RT>>, ConvertError> {
    use pb::append_entries_response::Outcome;
    Ok(match answer.outcome.ok_or_else(|| missing("outcome"))? {
        Outcome::Success(_) => AppendEntriesResponse::Success,
        Outcome::PartialSuccess(p) => {
            AppendEntriesResponse::PartialSuccess(optional_log_id("matching", p.matching)?)
        }
        Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
        Outcome::HigherVote(v) => AppendEntriesResponse::HigherVote(required_vote("higher_vote", Some(v))?),
    })
}

pub(crate) fn vote_request<RT: AsyncRuntime>(
    header: Option<pb::Header>,
    request: &VoteRequest<Types<RT>>,
) -> pb::VoteRequest {
    pb::VoteRequest {
        header,
        vote: Some(vote(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from<RT: AsyncRuntime>(
    message: pb::VoteRequest,
) -> Result<VoteRequest<Types<RT>>, ConvertError> {
    Ok(VoteRequest {
        vote: required_vote("vote", message.vote)?,
        last_log_id: optional_log_id("last_log_id", message.last_log_id)?,
        leadership_transfer: message.leadership_transfer,
    })
}

pub(crate) fn vote_response<RT: AsyncRuntime>(answer: &VoteResponse<Types<RT>>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote(&answer.vote)),
        vote_granted: answer.vote_granted,
        last_log_id: answer.last_log_id.as_ref().map(log_id),
    }
}

pub(crate) fn vote_response_from<RT: AsyncRuntime>(
    answer: pb::VoteResponse,
) -> Result<VoteResponse<Types<RT>>, ConvertError> {
    let vote = required_vote("vote", answer.vote)?;
    Ok(VoteResponse::new(vote, optional_log_id("last_log_id", answer.last_log_id)?, answer.vote_granted))
}

pub(crate) fn transfer_request_from<RT: AsyncRuntime>(
    message: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<Types<RT>>, ConvertError> {
    let from = required_vote("from_leader", message.from_leader)?;
    let last = optional_log_id("last_log_id", message.last_log_id)?;
    Ok(TransferLeaderRequest::new(from, message.to_node_id, last))
}

pub(crate) fn transfer_response<RT: AsyncRuntime>(
    answer: &TransferLeaderResponse<Types<RT>>,
) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::{Accepted, LogNotFlushed, Outcome, VoteChanged};
    let outcome = match answer {
        Ok(()) => Outcome::Accepted(Accepted {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Outcome::VoteChanged(VoteChanged { expected: Some(vote(expected)), actual: Some(vote(actual)) })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Outcome::LogNotFlushed(LogNotFlushed {
                expected: expected.as_ref().map(log_id),
                actual: actual.as_ref().map(log_id),
            })
        }
    };
    pb::TransferLeaderResponse { outcome: Some(outcome) }
}

pub(crate) fn transfer_response_from<RT: AsyncRuntime>(
    answer: pb::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<Types<RT>>, ConvertError> {
    use pb::transfer_leader_response::Outcome;
    Ok(match answer.outcome.ok_or_else(|| missing("outcome"))? {
        Outcome::Accepted(_) => Ok(()),
        Outcome::VoteChanged(v) => Err(TransferLeaderError::VoteChanged {
            expected: required_vote("expected", v.expected)?,
            actual: required_vote("actual", v.actual)?,
        }),
        Outcome::LogNotFlushed(l) => Err(TransferLeaderError::LogNotFlushed {
            expected: optional_log_id("expected", l.expected)?,
            actual: optional_log_id("actual", l.actual)?,
        }),
    })
}
