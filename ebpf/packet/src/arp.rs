//! ARP for IPv4 over Ethernet (RFC 826).

/// Bytes of a packet.
pub const LENGTH: usize = 28;

/// A question that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub sender_mac: [u8; 6],
    /// Its address, network order; 0 in a probe (RFC 5227).
    pub sender_be: u32,
    /// The address asked for, network order.
    pub target_be: u32,
}

/// Ethernet, IPv4, 6 and 4 bytes, and the operation.
const PREFIX: [u8; 7] = [0, 1, 8, 0, 6, 4, 0];

/// Reads a request. `None` for replies, for other protocols, and for an announcement (sender equals target):
/// that is no question, and answering it would contest an address that has just moved.
#[inline(always)]
pub fn question(packet: &[u8; LENGTH]) -> Option<Question> {
    let [a, b, c, d, e, f, g, operation, ..] = *packet;
    if [a, b, c, d, e, f, g] != PREFIX || operation != 1 {
        return None;
    }
    let sender_be = u32::from_ne_bytes([packet[14], packet[15], packet[16], packet[17]]);
    let target_be = u32::from_ne_bytes([packet[24], packet[25], packet[26], packet[27]]);
    if sender_be == target_be {
        return None;
    }
    Some(Question {
        sender_mac: [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]],
        sender_be,
        target_be,
    })
}

/// The answer: `mac` has the target's address.
#[inline(always)]
pub fn answer(question: &Question, mac: [u8; 6]) -> [u8; LENGTH] {
    let t = question.target_be.to_ne_bytes();
    let s = question.sender_be.to_ne_bytes();
    let q = question.sender_mac;
    [
        0, 1, 8, 0, 6, 4, 0, 2, //
        mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], t[0], t[1], t[2], t[3], //
        q[0], q[1], q[2], q[3], q[4], q[5], s[0], s[1], s[2], s[3],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: [u8; LENGTH] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10];

    #[test]
    fn a_request_is_answered_to_its_sender() {
        let question = question(&ASK).unwrap();
        assert_eq!(
            answer(&question, [2, 0, 0, 0, 0, 1]),
            [0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 192, 0, 2, 10, 2, 0, 0, 0, 0, 9, 192, 0, 2, 1]
        );
    }

    #[test]
    fn replies_announcements_and_other_protocols_are_no_questions() {
        let mut reply = ASK;
        reply[7] = 2;
        let mut announcement = ASK;
        announcement[14..18].copy_from_slice(&[192, 0, 2, 10]);
        let mut other = ASK;
        other[2] = 0x86;
        for packet in [reply, announcement, other] {
            assert_eq!(question(&packet), None);
        }
        let mut probe = ASK;
        probe[14..18].copy_from_slice(&[0; 4]);
        assert!(question(&probe).is_some(), "a probe asks whether the address is taken");
    }
}
