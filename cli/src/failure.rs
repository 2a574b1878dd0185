//! Why a command failed, and the exit code that says so to scripts.

use std::process::ExitCode;

/// One variant per exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// 1: the server understood and refused.
    #[error("{0}")]
    Refused(String),
    /// 2: the command line or a file it names is wrong.
    #[error("{0}")]
    Usage(String),
    /// 3: no server answered.
    #[error("{0}")]
    Unreachable(String),
    /// 4: no object of that name.
    #[error("{0}")]
    NotFound(String),
    /// 5: somebody else changed it meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// 6: `diff` found something, and has printed it.
    #[error("the cluster is not what the manifest says")]
    Differs,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::NotFound(_) => 4,
            Failure::Conflict(_) => 5,
            Failure::Differs => 6,
        })
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            tonic::Code::NotFound => Failure::NotFound(text),
            tonic::Code::Aborted => Failure::Conflict(text),
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                Failure::Unreachable(text)
            }
            tonic::Code::Unknown if std::error::Error::source(&status).is_some() => {
                Failure::Unreachable(text)
            }
            _ => Failure::Refused(text),
        }
    }
}
