//! Datagrams of the UDP service: the client's carries a key, a number and predicted bytes, the endpoint's
//! answer the same key and number, who answered, and predicted bytes of the other direction.

use super::pattern::{Direction, Pattern};

const REQUEST: u64 = 0x7564_7020_6173_6b73;
const REPLY: u64 = 0x7564_7020_7361_7973;
/// A datagram that asks for no answer, for tests that only make flows.
const SILENT: u64 = 0x7564_7020_6875_7368;
const HEADER: usize = 32;
const BODY: usize = 32;

/// Every datagram's length.
pub const LENGTH: usize = HEADER + BODY;

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Client to endpoint.
    Request {
        /// The flow.
        key: u64,
        /// Which of its datagrams.
        number: u64,
    },
    /// Endpoint to client.
    Reply {
        /// The flow.
        key: u64,
        /// Which datagram it answers.
        number: u64,
        /// Who answers.
        endpoint: u64,
    },
    /// To be ignored.
    Silent,
}

impl Message {
    /// As bytes.
    pub fn encode(self) -> [u8; LENGTH] {
        let (magic, key, number, endpoint, direction) = match self {
            Message::Request { key, number } => (REQUEST, key, number, 0, Direction::Up),
            Message::Reply { key, number, endpoint } => (REPLY, key, number, endpoint, Direction::Down),
            Message::Silent => (SILENT, 0, 0, 0, Direction::Up),
        };
        let mut bytes = [0; LENGTH];
        for (slot, value) in bytes.chunks_exact_mut(8).zip([magic, key, number, endpoint]) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        Pattern::new(key, direction).fill(number.wrapping_mul(BODY as u64), &mut bytes[HEADER..]);
        bytes
    }

    /// From bytes; none unless every byte is as predicted.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LENGTH {
            return None;
        }
        let field = |n: usize| {
            u64::from_be_bytes(bytes[n * 8..n * 8 + 8].try_into().expect("a field is eight bytes"))
        };
        let message = match field(0) {
            REQUEST => Message::Request { key: field(1), number: field(2) },
            REPLY => Message::Reply { key: field(1), number: field(2), endpoint: field(3) },
            SILENT => Message::Silent,
            _ => return None,
        };
        (message.encode() == bytes).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_and_changes_show() {
        for message in [
            Message::Request { key: 1, number: 2 },
            Message::Reply { key: u64::MAX, number: 7, endpoint: 3 },
            Message::Silent,
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Some(message));
            for at in 0..bytes.len() {
                let mut changed = bytes;
                changed[at] ^= 1;
                assert_ne!(Message::decode(&changed), Some(message));
            }
        }
    }
}
