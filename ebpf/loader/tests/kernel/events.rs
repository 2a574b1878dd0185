//! Flow events, from real packets.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use lockstep_loader::LeaseUntil;
use lockstep_model::flow::{FlowChange, FlowRecord, FlowState};
use lockstep_model::ids::Epoch;
use lockstep_model::protocol::Protocol;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto, socket,
};

use crate::bed::{Bed, GROUP, TCP_SERVICE, VIP, VIP6, endpoint, endpoint6, eventually, image_of_both};

/// The other end of `eth0`'s pair: what is sent here arrives there.
struct Wire {
    socket: OwnedFd,
    address: LinkAddr,
}

impl Wire {
    fn new() -> Self {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None::<SockProtocol>).unwrap();
        // SAFETY: all zeroes are a sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = nix::net::if_::if_nametoindex("client0").unwrap() as i32;
        address.sll_halen = 6;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: a filled sockaddr_ll with its own length.
        let address =
            unsafe { LinkAddr::from_raw(std::ptr::from_ref(&address).cast(), Some(length)) }.unwrap();
        Self { socket, address }
    }

    fn send(&self, frame: &[u8]) {
        sendto(self.socket.as_raw_fd(), frame, &self.address, MsgFlags::empty()).unwrap();
    }
}

/// A SYN to the VIP's port 80.
fn syn(mac: [u8; 6], client: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(mac);
    frame.extend([2, 0, 0, 0, 0, 0x77, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    ip.extend(client.octets());
    ip.extend(VIP.octets());
    let sum = ones(&ip, 0);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut tcp = Vec::new();
    tcp.extend(port.to_be_bytes());
    tcp.extend(80u16.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let mut pseudo = Vec::new();
    pseudo.extend(client.octets());
    pseudo.extend(VIP.octets());
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    let sum = ones(&pseudo, 0);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The same over IPv6.
fn syn6(mac: [u8; 6], client: Ipv6Addr, port: u16) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(port.to_be_bytes());
    tcp.extend(80u16.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let addresses = [client.octets(), VIP6.octets()].concat();
    let pseudo = [addresses.as_slice(), &[0, 0, 0, 20, 0, 0, 0, 6], &tcp].concat();
    let sum = ones(&pseudo, 0);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 0x77, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend(addresses);
    frame.extend(tcp);
    frame
}

fn ones(bytes: &[u8], start: u32) -> u16 {
    let mut sum =
        bytes.chunks(2).fold(start, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn a_new_flow_is_told_as_it_is_made() {
    let bed = Bed::new(1024);
    let dataplane = bed.serving();
    let mut events = dataplane.events().unwrap();
    let mac = dataplane.interfaces().unwrap()[0].mac;
    let wire = Wire::new();
    let client = Ipv4Addr::new(192, 0, 2, 77);

    // Without the lease: silence, and a counter.
    wire.send(&syn(mac, client, 4000));
    let no_lease = || dataplane.counters().unwrap().iter().find(|(name, _)| *name == "no_lease").unwrap().1;
    eventually("drop without the lease", || (no_lease() == 1).then_some(()));
    assert_eq!(events.drain(10, |_, _, _| ()), 0);

    dataplane.lease_writer().set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    wire.send(&syn(mac, client, 4001));
    let (record, epoch): (FlowRecord, Epoch) = eventually("event", || {
        let mut found = None;
        events.drain(10, |change, epoch, _| match change {
            FlowChange::Upsert(record) => found = Some((record, epoch)),
            FlowChange::Remove { .. } => panic!("the kernel tells of no removal"),
        });
        found
    });
    assert_eq!(epoch, Epoch(40));
    assert_eq!(record.key.client, "192.0.2.77:4001".parse().unwrap());
    assert_eq!(record.key.service, "192.0.2.10:80".parse().unwrap());
    assert_eq!((record.key.protocol, record.state), (Protocol::Tcp, FlowState::New));
    assert_eq!((record.group, record.service), (GROUP, TCP_SERVICE));
    assert!((11..=13).any(|host| endpoint(host).address == record.endpoint_address));
    assert!(record.remaining <= Duration::from_secs(10) && record.remaining > Duration::from_secs(1));

    let walked = dataplane.flows().walk(None, 100).unwrap().flows;
    assert_eq!(walked.len(), 1);
    assert_eq!(walked[0].record.version, record.version);
    assert_eq!(events.take_lost().unwrap(), 0);
}

#[test]
fn a_new_flow_over_ipv6_is_told_as_well() {
    let bed = Bed::new(1024);
    let mut dataplane = bed.open();
    dataplane.apply(&image_of_both(), |_| true).unwrap();
    let mut events = dataplane.events().unwrap();
    dataplane.lease_writer().set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    let mac = dataplane.interfaces().unwrap()[0].mac;
    let wire = Wire::new();
    wire.send(&syn6(mac, "2001:db8::77".parse().unwrap(), 4001));
    wire.send(&syn(mac, Ipv4Addr::new(192, 0, 2, 77), 4001));
    let mut records = Vec::new();
    eventually("two events", || {
        events.drain(10, |change, _, _| match change {
            FlowChange::Upsert(record) => records.push(record),
            FlowChange::Remove { .. } => panic!("the kernel tells of no removal"),
        });
        (records.len() == 2).then_some(())
    });
    assert_eq!(records[0].key.client, "[2001:db8::77]:4001".parse().unwrap());
    assert_eq!(records[0].key.service, "[2001:db8::10]:80".parse().unwrap());
    assert!((11..=13).any(|host| endpoint6(host).address == records[0].endpoint_address));
    assert_eq!(records[1].key.client, "192.0.2.77:4001".parse().unwrap());
    assert_eq!(events.malformed_total(), 0);
    let walked = dataplane.flows().walk(None, 100).unwrap();
    let walked6 = dataplane.flows().walk(walked.next, 100).unwrap();
    assert_eq!(walked6.flows[0].record.key, records[0].key);
}

#[test]
fn a_full_ring_marks_the_shards_that_lost_something() {
    let bed = Bed::new(131_072);
    let dataplane = bed.serving();
    let mut events = dataplane.events().unwrap();
    assert_eq!(events.take_lost().unwrap(), 0);
    dataplane.lease_writer().set(GROUP, Epoch(40), LeaseUntil::Unbounded).unwrap();
    let mac = dataplane.interfaces().unwrap()[0].mac;
    let wire = Wire::new();
    // Nobody reads the ring: at 112 bytes each it holds fewer than these.
    let lost = || dataplane.counters().unwrap().iter().find(|(name, _)| *name == "event_lost").unwrap().1;
    let mut sent = 0u32;
    while lost() == 0 {
        assert!(sent < 120_000, "a ring of 4 MiB is full by now");
        for _ in 0..2000 {
            let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + sent / 60_000);
            wire.send(&syn(mac, client, 1024 + (sent % 60_000) as u16));
            sent += 1;
        }
    }
    let bitmap = events.take_lost().unwrap();
    assert_ne!(bitmap, 0);
    assert_eq!(bitmap & !0b1111, 0);
    assert!(events.lost_total() >= 1);
    let mut drained = 0;
    while events.drain(1024, |_, _, _| drained += 1) == 1024 {}
    assert!(drained > 10_000, "{drained}");
    assert_eq!(events.malformed_total(), 0);
}
