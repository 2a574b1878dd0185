//! How a refusal becomes a gRPC status: one place, so that exit codes and codes agree everywhere.

use lockstep_model::manifest::ManifestError;
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
        Refusal::Invalid { path, value, allowed } => violation(text, 0, path, value, allowed),
        Refusal::NotFound { .. } => Status::not_found(text),
        Refusal::Conflict { .. } => Status::aborted(text),
    }
}

/// A manifest that cannot be read.
pub(crate) fn manifest(error: &ManifestError) -> Status {
    violation(error.to_string(), error.document as u32, &error.path, &error.value, &error.allowed)
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

fn violation(text: String, document: u32, path: &str, value: &str, allowed: &str) -> Status {
    let violations = Violations {
        violations: vec![Violation {
            document,
            path: path.to_owned(),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        }],
    };
    let mut status = Status::invalid_argument(text);
    let bytes = tonic::metadata::MetadataValue::from_bytes(&violations.encode_to_vec());
    status.metadata_mut().insert_bin(TRAILER, bytes);
    status
}
