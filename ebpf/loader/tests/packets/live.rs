//! Real connections through real links: aggregated packets and partial checksums, as sockets on a veth
//! send them, which `BPF_PROG_TEST_RUN` cannot make.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::programs::TcAttachType;
use lockstep_abi::map;
use lockstep_abi::service::{ROUND_ROBIN, SYNC_IMMEDIATE};
use nix::sched::{CloneFlags, unshare};

use crate::rig::*;

const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A host at the other end of one of the rig's links: a thread in a namespace of its own.
struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    fn new(link: &str, address: Ipv4Addr, gateway: Option<Ipv4Addr>) -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (ready, started) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            inbox.into_iter().for_each(|job| job());
        });
        let id = started.recv().unwrap();
        ip(&format!("link set {link} netns {id}"));
        let host = Self { jobs: Some(jobs), thread: Some(thread) };
        let link = link.to_owned();
        host.run(move || {
            ip("link set lo up");
            ip(&format!("addr add {address}/24 dev {link}"));
            ip(&format!("link set {link} up"));
            if let Some(gateway) = gateway {
                ip(&format!("route add default via {gateway}"));
            }
        })
        .recv()
        .unwrap();
        host
    }

    /// Runs a job in the host's namespace; its result comes through the channel.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            // Nobody listens any more when the test has failed already.
            let _ = done.send(job());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.take().unwrap();
        if !std::thread::panicking() {
            thread.join().unwrap();
        }
    }
}

fn attach(rig: &mut Rig) {
    let entry = program(&mut rig.ebpf, map::PROGRAM_ENTRY);
    for name in ["client0", "endpoint0"] {
        entry.attach(name, TcAttachType::Ingress).unwrap();
    }
}

fn vip() -> SocketAddr {
    SocketAddr::from((VIP, 80))
}

fn echo_once(listener: &TcpListener) {
    let (mut stream, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), CLIENT, "mode nat keeps the client's address");
    let mut copy = stream.try_clone().unwrap();
    std::io::copy(&mut copy, &mut stream).unwrap();
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn client_and_endpoint() -> (Host, Host) {
    (Host::new("client1", CLIENT, None), Host::new("endpoint1", endpoint(1).0, Some(FLOATING_ADDRESS)))
}

fn prepare(rig: &mut Rig) {
    // The hosts have the MACs of their links, which the rig must learn by ARP.
    for address in [CLIENT, endpoint(1).0] {
        let device = if address == CLIENT { "client0" } else { "endpoint0" };
        ip(&format!("neigh del {address} dev {device}"));
    }
    rig.service(&[1], ROUND_ROBIN, SYNC_IMMEDIATE);
    attach(rig);
}

#[test]
fn megabytes_of_tcp_pass_unharmed_in_both_directions() {
    with_rig(|rig| {
        prepare(rig);
        let (client, server) = client_and_endpoint();
        let listener =
            server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap()).recv().unwrap();
        let echo = server.run(move || echo_once(&listener));
        let received = client.run(|| {
            let stream = TcpStream::connect_timeout(&vip(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                writer.write_all(&pattern(8 << 20)).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            (&stream).read_to_end(&mut received).unwrap();
            sender.join().unwrap();
            received
        });
        assert!(received.recv().unwrap() == pattern(8 << 20), "every byte comes back");
        echo.recv().unwrap();
        let counters = rig.counters();
        assert!(counters["forwarded_fast"] > 20, "{counters:?}");
        assert_eq!(counters["flow_created"], 1);
        assert_eq!(counters["no_lease"] + counters["malformed"] + counters["frag_needed"], 0, "{counters:?}");
        assert!(counters["arp_answered"] >= 2, "client and endpoint asked for VIP and gateway");
    });
}

#[test]
fn i10_a_connection_waits_while_nobody_holds_the_lease() {
    with_rig(|rig| {
        prepare(rig);
        let (client, server) = client_and_endpoint();
        let listener =
            server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap()).recv().unwrap();
        let echo = server.run(move || echo_once(&listener));
        let ask = |mut stream: TcpStream| {
            client.run(move || {
                stream.write_all(b"hello").unwrap();
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"hello");
                stream
            })
        };
        let connect = client.run(|| {
            let stream = TcpStream::connect_timeout(&vip(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        let stream = ask(connect.recv().unwrap()).recv().unwrap();
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
    });
}

#[test]
fn udp_of_any_size_that_fits_is_answered() {
    with_rig(|rig| {
        prepare(rig);
        let (client, server) = client_and_endpoint();
        let socket = server.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap()).recv().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        const SIZES: [usize; 4] = [1, 17, 1000, 1472];
        let echo = server.run(move || {
            let mut buffer = [0; 2000];
            for _ in SIZES {
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..length], peer).unwrap();
            }
        });
        let asked = client.run(|| {
            let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(vip()).unwrap();
            for size in SIZES {
                let mut answer = vec![0; 2000];
                socket.send(&pattern(size)).unwrap();
                let length = socket.recv(&mut answer).unwrap();
                assert_eq!(answer[..length], pattern(size));
            }
        });
        echo.recv().unwrap();
        asked.recv().unwrap();
    });
}

/// One echo request from the kernel's own ping socket, and its answer.
fn ping(address: Ipv4Addr) {
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
    with_rig(|rig| {
        prepare(rig);
        let (client, server) = client_and_endpoint();
        let ping = |host: &Host, address: Ipv4Addr| host.run(move || ping(address)).recv().unwrap();
        ping(&client, VIP);
        ping(&server, FLOATING_ADDRESS);
        ping(&client, NODE);
        ping(&server, NODE_ENDPOINT_SIDE);
        assert_eq!(rig.counters()["ping_answered"], 2);
    });
}
