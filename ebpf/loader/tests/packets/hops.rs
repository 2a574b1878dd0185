//! The table of next hops: what live flows do when it changes.

use lockstep_abi::hop::{BY_DESTINATION, USABLE, XDP, word};
use lockstep_abi::map;
use lockstep_abi::reason::Reason;
use lockstep_abi::service::ServiceRef;

use crate::case::{BOTH_FAMILIES_XDP, Side, endpoint_mac};
use crate::frame::{ACK, Packet, SYN, TCP, UDP};
use crate::rig::*;

const ELSEWHERE: [u8; 6] = [2, 0, 0, 0, 9, 9];

#[test]
fn a_mac_that_changes_in_place_takes_effect_at_once() {
    for_each(|rig| {
        let n = rig.connect(40000);
        rig.change_hop(rig.net.endpoint(n).0, |hop| hop.destination_mac = ELSEWHERE);
        let out = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!((out.to, out.from), (ELSEWHERE, Side::Endpoints.own_mac()));
        let back = rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!(back.to, Side::Clients.mac(50), "the other direction has a hop of its own");
    });
}

#[test]
fn after_a_raised_stamp_the_routing_table_is_asked_once() {
    for_each(|rig| {
        let n = rig.connect(40000);
        for stamp in [HOP_STAMP + 1, HOP_STAMP + 2, 1 << 20 | HOP_STAMP] {
            rig.table(map::HOP_STAMP).put(&0u32, &stamp);
            rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedSlow);
            let out = rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
            assert_eq!(out.destination, rig.net.endpoint(n));
            rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedSlow);
            rig.endpoint_sends(&rig.reply(TCP, n, 40000, ACK)).forwarded(Reason::ForwardedFast);
        }
    });
}

#[test]
fn a_freed_index_that_is_anothers_now_is_not_used_under_the_new_stamp() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let endpoint = rig.net.endpoint(n).0;
        let index = rig.hop_index(endpoint);
        rig.forget_hop(endpoint);
        rig.table(map::HOP_STAMP).put(&0u32, &(HOP_STAMP + 1));
        rig.table::<u32, lockstep_abi::hop::HopValue>(map::HOPS)
            .change(&index, |hop| hop.destination_mac = ELSEWHERE);
        for _ in 0..2 {
            let sent = rig.client_sends(&rig.tcp(40000, ACK));
            let out = sent.forwarded(Reason::ForwardedSlow);
            assert_eq!(out.to, endpoint_mac(n), "the kernel knows it");
            assert!(!sent.by_xdp, "XDP sends to neighbours in the table only");
        }
    });
}

#[test]
fn a_hop_that_is_not_usable_makes_packets_ask() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let endpoint = rig.net.endpoint(n).0;
        rig.change_hop(endpoint, |hop| hop.flags = XDP);
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        assert_eq!(sent.forwarded(Reason::ForwardedSlow).to, endpoint_mac(n));
        assert!(!sent.by_xdp);
        rig.change_hop(endpoint, |hop| hop.flags = USABLE | XDP);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

#[test]
fn a_device_that_takes_nothing_from_xdp_is_sent_to_from_tc() {
    for_cases(&BOTH_FAMILIES_XDP, |rig| {
        rig.publish(&Service::over(&[1]));
        rig.change_hop(rig.net.endpoint(1).0, |hop| hop.flags = USABLE);
        let sent = rig.client_sends(&rig.tcp(40000, SYN));
        let out = sent.forwarded(Reason::ForwardedSlow);
        assert!(!sent.by_xdp && sent.count(Reason::FlowCreated) == 1, "made once: {sent:?}");
        rig.endpoint_sends(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        // What XDP has changed before it handed the packet on needs no decision any more.
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        sent.forwarded(Reason::ForwardedFast);
        assert_eq!(sent.count(Reason::FlowChanged), 1);
        // One way is tc's, the other XDP's.
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        sent.forwarded(Reason::ForwardedFast);
        assert!(!sent.by_xdp);
        let sent = rig.endpoint_sends(&out.answer(ACK));
        sent.forwarded(Reason::ForwardedFast);
        assert!(sent.by_xdp);
        rig.change_hop(rig.net.endpoint(1).0, |hop| hop.flags = USABLE | XDP);
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        sent.forwarded(Reason::ForwardedFast);
        assert!(sent.by_xdp);
    });
}

#[test]
fn an_unconfigured_interface_at_xdp_is_tcs() {
    use lockstep_abi::address::MacValue;
    for_cases(&BOTH_FAMILIES_XDP, |rig| {
        let n = rig.connect(40000);
        rig.table(map::MACS).put(&(rig.client_side % map::MAX_MACS), &MacValue::default());
        let sent = rig.client_sends(&rig.tcp(40000, ACK));
        assert_eq!(sent.forwarded(Reason::ForwardedFast).destination, rig.net.endpoint(n));
        assert!(!sent.by_xdp);
    });
}

#[test]
fn what_does_not_fit_the_hop_asks_and_is_not_forwarded_where_the_link_is_smaller() {
    for_each(|rig| {
        let n = rig.connect(40000);
        let endpoint = rig.net.endpoint(n).0;
        let large = Packet { payload: vec![7; 1400], ..rig.tcp(40000, ACK) };
        rig.client_sends(&large).forwarded(Reason::ForwardedFast);
        let length = (large.bytes().len() - 14) as u32;
        rig.change_hop(endpoint, |hop| hop.mtu = length);
        rig.client_sends(&large).forwarded(Reason::ForwardedFast);
        // The table is behind: the routing table says that it fits.
        rig.change_hop(endpoint, |hop| hop.mtu = length - 1);
        rig.client_sends(&large).forwarded(Reason::ForwardedSlow);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
        ip(&format!("link set endpoint0 mtu {}", length - 1));
        rig.client_sends(&large).answered(Reason::FragNeeded, Reason::SentTooBig);
        rig.client_sends(&rig.tcp(40000, ACK)).forwarded(Reason::ForwardedFast);
    });
}

/// Where the next hop of the endpoint's new flows is kept, of the version that [`Service::over`] writes, which has one.
fn kept(rig: &Rig) -> u32 {
    rig.table(map::ENDPOINT_HOPS).get(&(Service::over(&[1]).slot * map::MAX_ENDPOINTS)).unwrap_or_default()
}

/// The word of a hop under the rig's stamp.
fn good(rig: &Rig, n: u8) -> u32 {
    word(rig.hop_index(rig.net.endpoint(n).0), HOP_STAMP)
}

#[test]
fn flows_to_an_endpoint_share_what_one_of_them_asked_for() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        rig.table(map::HOP_STAMP).put(&BY_DESTINATION, &1u32);
        let first = rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(kept(rig), good(rig, 1));
        // What the second one is sent by is what was kept, and is in its entry at once.
        rig.table(map::ENDPOINT_HOPS).put(&(Service::over(&[1]).slot * map::MAX_ENDPOINTS), &good(rig, 2));
        let second = rig.client_sends(&rig.tcp(40001, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!((first.to, second.to), (endpoint_mac(1), endpoint_mac(2)));
        assert_eq!(second.destination, rig.net.endpoint(1));
        // That way, too, a packet at the end of its life goes no further, and one of UDP leaves whole.
        let last = rig.client_sends(&Packet { ttl: 1, ..rig.tcp(40003, SYN) });
        assert_eq!((last.count(Reason::TtlExceeded), last.count(Reason::SentTimeExceeded)), (1, 1));
        let datagram = rig.client_sends(&rig.request(UDP, 40004, 0)).forwarded(Reason::ForwardedSlow);
        assert_eq!((datagram.to, datagram.destination), (endpoint_mac(2), rig.net.endpoint(1)));
        // Under another stamp it is nobody's.
        rig.table(map::HOP_STAMP).put(&0u32, &(HOP_STAMP + 1));
        let third = rig.client_sends(&rig.tcp(40002, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(third.to, endpoint_mac(1));
    });
}

#[test]
fn flows_share_no_hop_where_a_rule_looks_at_more_than_the_destination() {
    for_each(|rig| {
        rig.publish(&Service::over(&[1]));
        rig.table(map::HOP_STAMP).put(&BY_DESTINATION, &0u32);
        rig.client_sends(&rig.tcp(40000, SYN)).forwarded(Reason::ForwardedSlow);
        assert_eq!(kept(rig), 0);
        // The flow itself knows its way.
        let n = rig.connect(40001);
        rig.client_sends(&rig.tcp(40001, ACK)).forwarded(Reason::ForwardedFast);
        assert_eq!((n, kept(rig)), (1, 0));
    });
}

#[test]
fn a_service_that_names_another_address_is_served_by_its_own() {
    for_each(|rig| {
        for index in [FLOATING_INDEX as u16, 99, u16::MAX] {
            rig.publish(&Service::over(&[1]));
            let named = ServiceRef { address_index: index, ..reference(Service::over(&[1]).slot) };
            rig.name_by(rig.net.vip(), 80, TCP, named);
            let port = 40000 + index % 100;
            let out = rig.client_sends(&rig.tcp(port, SYN)).forwarded(Reason::ForwardedSlow);
            assert_eq!(out.destination, rig.net.endpoint(1), "{index}");
            let flow = rig.flow(&rig.tcp(port, SYN)).unwrap();
            assert_eq!(u32::from(flow.address_index), VIP_INDEX, "{index}");
        }
    });
}
