//! What is read and what is refused.

extern crate std;
use proptest::prelude::*;

use super::*;

#[test]
fn packets_that_no_stack_sends_are_refused() {
    let good = [0x80, 0, 0, 80, 1, 2, 3, 4, 9, 8, 7, 6, DATA, 3, 0, 20];
    let sctp = parse(&good).unwrap();
    assert_eq!((sctp.source_port_be, sctp.destination_port_be), (0x8000u16.to_be(), 80u16.to_be()));
    assert_eq!(sctp.tag_be.to_ne_bytes(), [1, 2, 3, 4]);
    assert_eq!((sctp.checksum, sctp.chunk), ([9, 8, 7, 6], DATA));
    let refused = |change: fn(&mut [u8; 16])| {
        let mut bytes = good;
        change(&mut bytes);
        assert_eq!(parse(&bytes), None);
    };
    refused(|b| b[0] = 0);
    refused(|b| b[3] = 0);
    refused(|b| b[15] = 3);
    refused(|b| b[12] = INIT);
    refused(|b| b[4..8].copy_from_slice(&[0; 4]));
    let mut init = good;
    init[12] = INIT;
    init[4..8].copy_from_slice(&[0; 4]);
    assert_eq!(parse(&init).unwrap().chunk, INIT);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes: [u8; 16]) {
        if let Some(sctp) = parse(&bytes) {
            prop_assert_eq!(sctp.tag_be == 0, sctp.chunk == INIT);
        }
    }
}
