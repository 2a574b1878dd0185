//! How a refusal becomes a gRPC status: one place, so that exit codes and codes agree everywhere.

use lockstep_model::manifest;
use lockstep_model::state::Refusal;
use lockstep_proto::admin::v1::{Violation, Violations};
use lockstep_raft_store::RaftError;
use prost::Message;
use tonic::{Code, Status};

/// The trailer that carries [`Violations`].
const TRAILER: &str = "lockstep-violations-bin";

/// A command that the state machine refused.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Invalid { path, value, allowed } => {
            let violation =
                Violation { document: 0, path: path.clone(), value: value.clone(), allowed: allowed.clone() };
            invalid(text, vec![violation])
        }
        Refusal::NotFound { .. } => Status::not_found(text),
        Refusal::Conflict { .. } => Status::aborted(text),
    }
}

/// A manifest with something wrong in it: every violation in one answer.
pub(crate) fn manifest(violations: &[manifest::Violation]) -> Status {
    let text = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let listed = violations.iter().map(|v| Violation {
        document: v.document as u32,
        path: v.problem.path.clone(),
        value: v.problem.value.clone(),
        allowed: v.problem.allowed.clone(),
    });
    invalid(text, listed.collect())
}

/// An object that is not there.
pub(crate) fn absent(kind: &str, name: &str) -> Status {
    refused(&Refusal::NotFound { kind: kind.to_owned(), name: name.to_owned() })
}

/// A failure of the Raft layer.
pub(crate) fn raft(error: &RaftError) -> Status {
    let code = match error.kind() {
        "refused" | "already_initialized" | "foreign" => Code::FailedPrecondition,
        "not_found" => Code::NotFound,
        _ => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

fn invalid(text: String, violations: Vec<Violation>) -> Status {
    let mut status = Status::invalid_argument(text);
    let bytes = tonic::metadata::MetadataValue::from_bytes(&Violations { violations }.encode_to_vec());
    status.metadata_mut().insert_bin(TRAILER, bytes);
    status
}
