//! The keyed hash of digests: the same on every machine and in every version that compares.
//!
//! Multiply and fold, as wyhash does it. Clients choose their addresses and ports, but not the seed, which is made of the
//! origin's session.

use std::net::{IpAddr, SocketAddr};

use lockstep_model::flow::{FlowKey, FlowRecord};
use lockstep_model::protocol::Family;

use crate::message::Session;

/// Keys the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64, u64);

impl Seed {
    /// Of everything that this session of an origin compares.
    pub fn new(session: Session) -> Self {
        let word = |at: usize| session.0[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        // Odd, so that no word is multiplied by zero.
        Self(mix(word(0) ^ 0xa076_1d64_78bd_642f, word(8) ^ 0xe703_7ed1_a0b4_28db) | 1, word(8) | 1)
    }

    /// Which bucket a flow is in, and who it is among those that changed.
    pub fn key(self, key: &FlowKey) -> u64 {
        let family = Family::of(key.client.ip());
        let state = self.fold(self.0, u64::from(key.protocol.number(family)));
        self.socket(self.socket(state, key.client), key.service)
    }

    /// What both sides have to agree on of a flow whose key has this hash.
    pub(super) fn content(self, key: u64, record: &FlowRecord) -> u64 {
        let mut state = self.fold(key, record.service.get());
        state = self.fold(state, record.endpoint.get());
        state = self.fold(state, record.version.n);
        state = self.fold(state, u64::from(record.state_bits) << 8 | record.kind as u64);
        state = self.socket(state, record.endpoint_address);
        match record.source {
            Some(source) => self.socket(state, source),
            None => state,
        }
    }

    fn socket(self, state: u64, socket: SocketAddr) -> u64 {
        let (high, low) = match socket.ip() {
            IpAddr::V4(v4) => (0, u64::from(u32::from(v4))),
            IpAddr::V6(v6) => ((u128::from(v6) >> 64) as u64, u128::from(v6) as u64),
        };
        let state = if high == 0 { state } else { self.fold(state, high) };
        self.fold(self.fold(state, low), u64::from(socket.port()))
    }

    fn fold(self, state: u64, word: u64) -> u64 {
        mix(state ^ word ^ self.1, self.0.rotate_left(17) ^ word).wrapping_add(state)
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockstep_model::flow::{FlowKind, FlowState, FlowVersion};
    use lockstep_model::ids::{EndpointId, GroupId, ServiceId};
    use lockstep_model::protocol::Protocol;

    use super::*;

    fn record() -> FlowRecord {
        let socket = |text: &str| text.parse().expect("a socket address");
        FlowRecord {
            key: FlowKey {
                protocol: Protocol::Tcp,
                client: socket("192.0.2.101:40000"),
                service: socket("192.0.2.10:443"),
            },
            group: GroupId(1),
            service: ServiceId(2),
            endpoint: EndpointId(3),
            endpoint_address: socket("10.0.0.11:8443"),
            source: None,
            kind: FlowKind::Nat,
            version: FlowVersion { birth: 100, n: 2 },
            state: FlowState::Established,
            state_bits: 5,
            remaining: Duration::from_secs(9),
        }
    }

    #[test]
    fn i5_a_digest_covers_what_becomes_of_a_packet() {
        let seed = Seed::new(Session([7; 16]));
        let content = |change: &dyn Fn(&mut FlowRecord)| {
            let mut record = record();
            change(&mut record);
            seed.content(seed.key(&record.key), &record)
        };
        let sound = content(&|_| {});
        assert_eq!(
            sound,
            content(&|flow| flow.remaining = Duration::from_secs(1)),
            "time left is not compared"
        );
        type Change = (&'static str, fn(&mut FlowRecord));
        let changes: [Change; 9] = [
            ("client", |flow| flow.key.client.set_port(40001)),
            ("protocol", |flow| flow.key.protocol = Protocol::Udp),
            ("service", |flow| flow.service = ServiceId(9)),
            ("endpoint", |flow| flow.endpoint = EndpointId(9)),
            ("endpoint_address", |flow| flow.endpoint_address.set_port(8444)),
            ("source", |flow| flow.source = Some(flow.key.client)),
            ("kind", |flow| flow.kind = FlowKind::DsrL2),
            ("version", |flow| flow.version.n = 3),
            ("state_bits", |flow| flow.state_bits = 6),
        ];
        for (what, change) in changes {
            assert_ne!(sound, content(&change), "{what}");
        }
    }
}
