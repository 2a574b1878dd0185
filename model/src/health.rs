//! What the cluster holds of an endpoint's health, and why probes fail.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{EndpointId, LogIndex, NodeId, Revision, ServiceId};

/// What the cluster agreed on about an endpoint. No verdict yet: it takes flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is up.
    pub up: bool,
    /// Where in the log.
    pub index: LogIndex,
    /// When, by the wall clock of the leader that proposed it, in milliseconds since 1970. For people only.
    pub at_unix_ms: u64,
    /// Why it is down, as one of the nodes saw it.
    pub failure: Option<Failure>,
    /// The nodes that said so.
    pub nodes: BTreeSet<NodeId>,
}

/// A proposed verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The service.
    pub service: ServiceId,
    /// Its revision when it was judged: a no-op when it is another now.
    pub revision: Revision,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whether it is up.
    pub up: bool,
    /// Why it is down.
    pub failure: Option<Failure>,
    /// The nodes that say so.
    pub nodes: BTreeSet<NodeId>,
}

/// Why a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The status of [`FailureKind::Status`], the errno of [`FailureKind::Local`], else 0.
    pub detail: u32,
}

impl Failure {
    /// A failure without detail.
    pub const fn of(kind: FailureKind) -> Self {
        Failure { kind, detail: 0 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Status => write!(f, "status {}", self.detail),
            FailureKind::Local => write!(f, "cannot be probed from here (errno {})", self.detail),
            kind => f.write_str(kind.text()),
        }
    }
}

macro_rules! failure_kinds {
    ($($(#[$doc:meta])* $name:ident: $label:literal, $text:literal;)+) => {
        /// Kinds of failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FailureKind {
            $($(#[$doc])* $name,)+
        }

        impl FailureKind {
            /// All, for metrics.
            pub const ALL: &'static [FailureKind] = &[$(FailureKind::$name),+];

            /// Metric label.
            pub const fn name(self) -> &'static str {
                match self { $(FailureKind::$name => $label,)+ }
            }

            const fn text(self) -> &'static str {
                match self { $(FailureKind::$name => $text,)+ }
            }
        }
    };
}

failure_kinds! {
    /// Nothing came within the timeout.
    Timeout: "timeout", "no answer in time";
    /// The port refuses connections or datagrams.
    Refused: "refused", "refused";
    /// A router, or the node's own table of routes or neighbours, says that nobody is there.
    Unreachable: "unreachable", "unreachable";
    /// The connection ended before there was an answer.
    Closed: "closed", "closed before it answered";
    /// TLS was not agreed on.
    Tls: "tls", "TLS handshake failed";
    /// What came is not HTTP.
    Protocol: "protocol", "the answer is not HTTP";
    /// A status that was not expected.
    Status: "status", "unexpected status";
    /// The answer does not contain what it should.
    Unexpected: "unexpected", "the answer is not the expected one";
    /// This node could not send: out of sockets, ports or rights.
    Local: "local", "cannot be probed from here";
}
