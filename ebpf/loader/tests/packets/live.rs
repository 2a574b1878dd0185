//! Real connections through real links: at tc with aggregated packets and partial checksums, as sockets on a veth
//! send them, which `BPF_PROG_TEST_RUN` cannot make; and at XDP, whose frames really leave by its own means.

mod host;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use aya::programs::tc::SchedClassifierLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{TcAttachType, XdpMode};
use lockstep_abi::map;

use crate::case::{BOTH_FAMILIES_TC, Case, Family, Side, TC_V4};
use crate::pool::{classifier, xdp};
use crate::rig::*;
use host::{Host, Offload, SET_SEND_CHECKSUMS, set};

const PATIENCE: Duration = Duration::from_secs(10);
/// Enough for thousands of packets that are not aggregated.
const BYTES: usize = 8 << 20;

/// What is on the interfaces; its end detaches.
#[derive(Default)]
struct Attached {
    _tc: Vec<SchedClassifierLink>,
    _xdp: Vec<XdpLink>,
}

fn attach(rig: &mut Rig, mode: Option<XdpMode>) -> Attached {
    let mut attached = Attached::default();
    let ebpf = &mut rig.loaded_mut().ebpf;
    for name in ["client0", "endpoint0"] {
        let entry = classifier(ebpf, map::PROGRAM_TC);
        let id = entry.attach(name, TcAttachType::Ingress).unwrap();
        attached._tc.push(entry.take_link(id).unwrap());
        if let Some(mode) = mode {
            let entry = xdp(ebpf, map::PROGRAM_XDP);
            let id = entry.attach(name, mode).unwrap();
            attached._xdp.push(entry.take_link(id).unwrap());
        }
    }
    attached
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// A client and an endpoint, at the ends of the rig's links.
struct Bed {
    client: Host,
    server: Host,
    vip: SocketAddr,
    client_address: IpAddr,
    any: IpAddr,
    _attached: Attached,
}

impl Bed {
    fn new(rig: &mut Rig, mode: Option<XdpMode>) -> Self {
        let net = rig.net;
        rig.publish(&Service::over(&[1]));
        let attached = attach(rig, mode);
        let offload = if mode.is_some() { Offload::Receive } else { Offload::All };
        let client = Host::new(net, Side::Clients, 50, net.vip(), offload);
        let server = Host::new(net, Side::Endpoints, 11, net.floating(), offload);
        if mode.is_none() {
            // As where nothing is known of any neighbour: the kernel asks. Over IPv6 it would first have to see that
            // its own address is nobody else's, which takes seconds.
            for (side, host) in [(Side::Clients, net.client()), (Side::Endpoints, net.endpoint(1).0)] {
                rig.forget_hop(host);
                if net == Family::V4 {
                    ip(&format!("neigh del {host} dev {}0", side.link()));
                }
            }
        }
        let any = if net == Family::V4 { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().unwrap() };
        let vip = SocketAddr::from((net.vip(), 80));
        Self { client, server, vip, client_address: net.client(), any, _attached: attached }
    }

    /// The endpoint answers one connection with what it says.
    fn echo(&self) -> std::sync::mpsc::Receiver<()> {
        let (any, client) = (self.any, self.client_address);
        let listener = self.server.run(move || TcpListener::bind((any, 8080)).unwrap()).recv().unwrap();
        self.server.run(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), client, "mode nat keeps the client's address");
            let mut copy = stream.try_clone().unwrap();
            std::io::copy(&mut copy, &mut stream).unwrap();
        })
    }

    fn connect(&self) -> TcpStream {
        let vip = self.vip;
        let connect = self.client.run(move || {
            let stream = TcpStream::connect_timeout(&vip, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        connect.recv().unwrap()
    }

    fn megabytes(&self) {
        let echo = self.echo();
        let stream = self.connect();
        let received = self.client.run(move || {
            let mut writer = stream.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                writer.write_all(&pattern(BYTES)).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            (&stream).read_to_end(&mut received).unwrap();
            sender.join().unwrap();
            received
        });
        assert!(received.recv().unwrap() == pattern(BYTES), "every byte comes back");
        echo.recv().unwrap();
    }

    fn datagrams(&self, sizes: [usize; 4]) {
        let any = self.any;
        let socket = self.server.run(move || UdpSocket::bind((any, 8080)).unwrap()).recv().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let echo = self.server.run(move || {
            let mut buffer = [0; 2000];
            for _ in sizes {
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..length], peer).unwrap();
            }
        });
        let (vip, client) = (self.vip, self.client_address);
        let asked = self.client.run(move || {
            let socket = UdpSocket::bind((client, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(vip).unwrap();
            for size in sizes {
                let mut answer = vec![0; 2000];
                socket.send(&pattern(size)).unwrap();
                let length = socket.recv(&mut answer).unwrap();
                assert_eq!(answer[..length], pattern(size));
            }
        });
        echo.recv().unwrap();
        asked.recv().unwrap();
    }
}

/// What the counters moved by while `act` ran; said when it fails, too.
fn moved(rig: &Rig, act: impl FnOnce()) -> impl Fn(&str) -> u64 {
    let before = rig.counters();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    let mut moved = rig.counters();
    moved.iter_mut().for_each(|(name, count)| *count -= before[name]);
    if let Err(panic) = outcome {
        moved.retain(|_, count| *count > 0);
        eprintln!("meanwhile: {moved:?}");
        std::panic::resume_unwind(panic);
    }
    move |name| moved[name]
}

/// The largest payload of UDP that fits the link.
fn largest(net: Family) -> usize {
    1500 - net.transport() + 14 - 8
}

#[test]
fn megabytes_of_tcp_pass_unharmed_in_both_directions() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        let bed = Bed::new(rig, None);
        let moved = moved(rig, || bed.megabytes());
        assert!(moved("forwarded_slow") > 20);
        assert_eq!(moved("flow_created"), 1);
        assert_eq!(moved("no_lease") + moved("malformed") + moved("frag_needed"), 0);
        if rig.net == Family::V4 {
            assert!(moved("arp_answered") >= 2, "client and endpoint asked for VIP and gateway");
        }
    });
}

/// A veth hands a partial checksum on, and whoever receives it asks no more. A device without that offload has it completed.
#[test]
fn i14_a_checksum_that_a_socket_left_to_the_device_is_right_when_that_completes_it() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        let bed = Bed::new(rig, None);
        ["client0", "endpoint0"].into_iter().for_each(|link| set(link, SET_SEND_CHECKSUMS, false));
        bed.megabytes();
        bed.datagrams([1, 17, 1000, largest(rig.net)]);
    });
}

#[test]
fn a_known_neighbour_makes_megabytes_fast() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        let bed = Bed::new(rig, None);
        rig.configure_hops();
        let moved = moved(rig, || bed.megabytes());
        assert!(moved("forwarded_fast") > 20 && moved("forwarded_slow") < 20);
    });
}

/// The same at XDP, which does it all: what it hands on is what is neither TCP nor UDP.
fn at_xdp(cases: &[Case], mode: XdpMode) {
    for_cases(cases, |rig| {
        let bed = Bed::new(rig, Some(mode));
        let sizes = [1, 17, 1000, largest(rig.net)];
        let moved = moved(rig, || {
            bed.megabytes();
            bed.datagrams(sizes);
        });
        // Not aggregated, each way.
        let packets = (BYTES / 1500 * 2) as u64;
        assert!(moved("forwarded_fast") > packets, "{}", moved("forwarded_fast"));
        assert!(moved("xdp_passed") < 100, "{}", moved("xdp_passed"));
        assert_eq!(moved("flow_created"), 2);
        assert_eq!(moved("no_lease") + moved("malformed") + moved("frag_needed"), 0);
    });
}

#[test]
fn native_xdp_carries_real_connections() {
    at_xdp(&BOTH_FAMILIES_TC, XdpMode::Driver);
}

#[test]
fn generic_xdp_carries_real_connections() {
    at_xdp(&TC_V4, XdpMode::Skb);
}

#[test]
fn i10_a_connection_waits_while_nobody_holds_the_lease() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        let bed = Bed::new(rig, None);
        let moved = moved(rig, || waits(rig, &bed));
        assert!(moved("no_lease") >= 2);
    });
}

fn waits(rig: &Rig, bed: &Bed) {
    let echo = bed.echo();
    let ask = |mut stream: TcpStream| {
        bed.client.run(move || {
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
            stream
        })
    };
    let stream = ask(bed.connect()).recv().unwrap();
    rig.drop_lease();
    let before = rig.counters()["no_lease"];
    let waiting = ask(stream);
    let deadline = Instant::now() + PATIENCE;
    while rig.counters()["no_lease"] < before + 2 {
        assert!(Instant::now() < deadline, "the client sends again while it waits");
        std::thread::yield_now();
    }
    assert!(waiting.try_recv().is_err());
    rig.hold_lease();
    drop(waiting.recv_timeout(PATIENCE).expect("the connection went on"));
    echo.recv().unwrap();
}

/// Aggregates whose segments are too big, and whose checksums are still to be made, are answered as well.
#[test]
fn a_smaller_mtu_on_the_way_makes_segments_smaller() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        let bed = Bed::new(rig, None);
        let (endpoint, bits) = (rig.net.endpoint(1).0, rig.net.bits());
        ip(&format!("route add {endpoint}/{bits} dev endpoint0 mtu lock 1300"));
        let moved = moved(rig, || bed.megabytes());
        assert!(moved("sent_too_big") >= 1);
        assert_eq!(moved("frag_needed"), moved("sent_too_big") + moved("icmp_limited"));
    });
}

#[test]
fn udp_of_any_size_that_fits_is_answered() {
    for_cases(&BOTH_FAMILIES_TC, |rig| {
        let bed = Bed::new(rig, None);
        bed.datagrams([1, 17, 1000, largest(rig.net)]);
    });
}

/// One echo request from the kernel's own ping socket, and its answer.
fn ping(address: IpAddr) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    // Group 0 may use ping sockets; in this namespace only.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
    let socket =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((address, 0)).unwrap();
    socket.send(&[8, 0, 0, 0, 0, 0, 0, 1, b'h', b'i']).unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!((length, answer[0], &answer[8..10]), (10, 0, &b"hi"[..]));
}

#[test]
fn a_ping_of_a_real_host_is_answered() {
    for_cases(&TC_V4, |rig| {
        let bed = Bed::new(rig, None);
        let ping = |host: &Host, address: IpAddr| host.run(move || ping(address)).recv().unwrap();
        let moved = moved(rig, || {
            ping(&bed.client, rig.net.vip());
            ping(&bed.server, rig.net.floating());
            ping(&bed.client, rig.net.node(Side::Clients));
            ping(&bed.server, rig.net.node(Side::Endpoints));
        });
        assert_eq!(moved("ping_answered"), 2);
    });
}
