//! Packets that a device has summed (CHECKSUM_COMPLETE): the stack of whoever gets them next believes that sum, which must
//! follow each change.

use lockstep_abi::reason::Reason;
use lockstep_abi::service::FULLNAT;

use crate::case::BOTH_FAMILIES_TC;
use crate::frame::{ACK, FIN, SYN, TCP, UDP};
use crate::rig::*;

#[test]
fn i14_a_sum_that_a_device_made_follows_a_translation() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        rig.summed = true;
        for mode in [lockstep_abi::service::NAT, FULLNAT] {
            rig.publish(&Service::over(&[1]).with(|version| version.mode = mode));
            for protocol in [TCP, UDP] {
                let port = 40000 + mode as u16;
                let question = |flags| rig.request(protocol, port, flags);
                let out = rig.client_sends(&question(SYN)).forwarded(Reason::ForwardedSlow);
                rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
                rig.client_sends(&question(ACK));
                rig.client_sends(&question(ACK)).forwarded(Reason::ForwardedFast);
                rig.endpoint_sends(&out.answer(ACK)).forwarded(Reason::ForwardedFast);
                rig.client_sends(&question(FIN | ACK));
            }
        }
    });
}

#[test]
fn i14_a_sum_that_a_device_made_follows_where_there_is_no_checksum_to_mend() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        rig.summed = true;
        // The ports stay: a sum over a datagram without a checksum is nobody's to compare.
        rig.publish(&Service { keep_port: true, ..Service::over(&[1]) });
        let mut frame = rig.request(UDP, 40000, 0).bytes();
        let checksum = rig.net.transport() + 6;
        frame[checksum..checksum + 2].fill(0);
        let sent = rig.send(rig.client_side, &frame);
        assert_eq!((sent.action, &sent.frame[checksum..checksum + 2]), (Action::Redirect, &[0; 2][..]));
    });
}
