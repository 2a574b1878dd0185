//! How the endpoints of a service are probed, and what their health decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A service's health check. The defaults are those of the interface's example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Where; 0: the endpoint's port, or where that is 0 too, the service's only one. 0 for ICMP.
    pub port: u16,
    /// From one probe to the next, [`crate::limits::MIN_HEALTH_INTERVAL`] to
    /// [`crate::limits::MAX_HEALTH_INTERVAL`].
    pub interval: Duration,
    /// How long an answer may take: from 1 ms to the interval, so that probes of an endpoint never overlap.
    pub timeout: Duration,
    /// Successes in a row that make a node find the endpoint up, 1-10.
    pub rise: u8,
    /// Failures in a row that make it find the endpoint down, 1-10.
    pub fall: u8,
    /// Who takes new flows when every endpoint is down.
    pub all_down: AllDown,
}

impl HealthCheck {
    /// What holds where the operator says nothing.
    pub const INTERVAL: Duration = Duration::from_secs(1);
    /// The default timeout, or the interval where that is shorter.
    pub const TIMEOUT: Duration = Duration::from_millis(500);
    /// The default of `rise`.
    pub const RISE: u8 = 2;
    /// The default of `fall`.
    pub const FALL: u8 = 3;
}

/// What is asked of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A connection is accepted.
    Tcp,
    /// A datagram is answered, or at least not refused.
    Udp {
        /// What is sent, 1-512 bytes; `None`: an empty datagram.
        send: Option<Vec<u8>>,
        /// What the answer must contain, 1-512 bytes; `None`: anything. If neither is given, silence is health.
        expect: Option<Vec<u8>>,
    },
    /// A GET is answered with a status.
    Http(HttpProbe),
    /// The same over TLS; the certificate is not checked.
    Https(HttpProbe),
    /// An echo is answered.
    Icmp,
}

/// What a GET asks, and what it must be answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Path and query, from `/`.
    pub path: String,
    /// The Host header, and the server name of TLS; empty: the endpoint's address.
    pub host: String,
    /// Statuses that mean health.
    pub expect: StatusRange,
}

/// Statuses of HTTP, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl StatusRange {
    /// How it is written.
    pub const FORMS: &'static str = "a status of 100-599 such as 200, or a range such as 200-399";

    /// Whether it is one.
    pub const fn is_valid(self) -> bool {
        100 <= self.first && self.first <= self.last && self.last <= 599
    }

    /// Whether it contains a status.
    pub const fn contains(self, status: u16) -> bool {
        self.first <= status && status <= self.last
    }
}

impl Default for StatusRange {
    fn default() -> Self {
        StatusRange { first: 200, last: 399 }
    }
}

impl std::fmt::Display for StatusRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl std::str::FromStr for StatusRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| match text.len() {
            3 => text.parse::<u16>().map_err(drop),
            _ => Err(()),
        };
        let range = StatusRange { first: status(first)?, last: status(last)? };
        if range.is_valid() { Ok(range) } else { Err(()) }
    }
}

/// Who takes new flows when every endpoint that could is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllDown {
    /// Nobody: they are refused.
    #[default]
    ServeNone,
    /// Everybody, as if none had been probed.
    ServeAll,
}
