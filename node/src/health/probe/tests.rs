use std::net::Ipv4Addr;
use std::time::Duration;

use lockstep_model::intent::{AllDown, HttpProbe, StatusRange};
use rcgen::generate_simple_self_signed;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Enough for what is answered; and what is not is waited for once.
const PATIENCE: Duration = Duration::from_secs(5);
const IMPATIENCE: Duration = Duration::from_millis(150);

fn prober(to: SocketAddr, probe: Probe, timeout: Duration) -> Prober {
    let (interval, all_down) = (Duration::from_secs(1), AllDown::ServeNone);
    let check = HealthCheck { probe, port: 0, interval, timeout, rise: 2, fall: 3, all_down };
    Prober::new(to, Arc::new(check))
}

async fn probe(to: SocketAddr, probe: Probe, timeout: Duration) -> Result<(), Failure> {
    prober(to, probe, timeout).probe().await
}

fn of(kind: FailureKind) -> Result<(), Failure> {
    Err(Failure::of(kind))
}

/// A port where nobody listens.
async fn closed() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn tcp_is_accepted_or_refused() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(any).await.unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(probe(to, Probe::Tcp, PATIENCE).await, Ok(()));
        drop(listener);
        assert_eq!(probe(to, Probe::Tcp, PATIENCE).await, of(FailureKind::Refused));
    }
}

/// Answers one connection with these bytes and closes it, or keeps it; what it was asked.
async fn serve(answer: &'static [u8], close: bool) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        request.truncate(read);
        stream.write_all(answer).await.unwrap();
        if close {
            stream.shutdown().await.unwrap();
        }
        // The prober ends it, by a reset.
        let _ended = stream.read(&mut [0; 1]).await;
        String::from_utf8(request).unwrap()
    });
    (to, served)
}

fn http(host: &str, expect: StatusRange) -> Probe {
    Probe::Http(HttpProbe { path: "/healthz?a=b".into(), host: host.into(), expect })
}

#[tokio::test]
async fn http_asks_for_the_path_and_wants_the_status() {
    let expect = StatusRange { first: 200, last: 299 };
    let (to, served) = serve(b"HTTP/1.1 204 No Content\r\n\r\n", false).await;
    assert_eq!(probe(to, http("web:81", expect), PATIENCE).await, Ok(()));
    let request = served.await.unwrap();
    assert!(request.starts_with("GET /healthz?a=b HTTP/1.1\r\nHost: web:81\r\n"), "{request}");
    assert!(request.contains("\r\nConnection: close\r\n") && request.ends_with("\r\n\r\n"), "{request}");

    let (to, served) = serve(b"HTTP/1.0 503 Service Unavailable\r\n\r\n", false).await;
    let failed = Failure { kind: FailureKind::Status, detail: 503 };
    assert_eq!(probe(to, http("", expect), PATIENCE).await, Err(failed));
    let request = served.await.unwrap();
    assert!(request.contains(&format!("\r\nHost: {to}\r\n")), "{request}");
}

#[tokio::test]
async fn what_is_no_http_is_named() {
    let expect = StatusRange::default();
    for (answer, close, expected) in [
        (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], false, FailureKind::Protocol),
        (&[b'x'; 2000], false, FailureKind::Protocol),
        (b"HTTP/1.1 200", true, FailureKind::Closed),
        (b"", true, FailureKind::Closed),
    ] {
        let (to, _served) = serve(answer, close).await;
        assert_eq!(probe(to, http("", expect), PATIENCE).await, of(expected), "{answer:?}");
    }
    let (to, _served) = serve(b"HTTP/1.1 20", false).await;
    assert_eq!(probe(to, http("", expect), IMPATIENCE).await, of(FailureKind::Timeout));
    assert_eq!(probe(closed().await, http("", expect), PATIENCE).await, of(FailureKind::Refused));
}

#[tokio::test]
async fn https_takes_any_certificate() {
    let made = generate_simple_self_signed(vec!["another.example".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.unwrap();
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        stream.read_exact(&mut [0; 16]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let _ended = stream.read(&mut [0; 4096]).await;
        name
    });
    let https = |host: &str| {
        Probe::Https(HttpProbe { path: "/".into(), host: host.into(), expect: StatusRange::default() })
    };
    assert_eq!(probe(to, https("web.example"), PATIENCE).await, Ok(()));
    assert_eq!(served.await.unwrap().as_deref(), Some("web.example"));

    let (to, _served) = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    assert_eq!(probe(to, https(""), PATIENCE).await, of(FailureKind::Tls));
    assert_eq!(probe(closed().await, https(""), PATIENCE).await, of(FailureKind::Refused));
}

fn udp(send: Option<&[u8]>, expect: Option<&[u8]>) -> Probe {
    Probe::Udp { send: send.map(<[u8]>::to_vec), expect: expect.map(<[u8]>::to_vec) }
}

#[tokio::test]
async fn udp_silence_is_health_unless_an_answer_is_wanted() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let silent = UdpSocket::bind(any).await.unwrap();
        let to = silent.local_addr().unwrap();
        let mut patient = prober(to, udp(None, None), IMPATIENCE);
        assert_eq!(patient.probe().await, Ok(()));
        assert_eq!(silent.recv(&mut [0; 8]).await.unwrap(), 0, "an empty datagram");
        assert_eq!(probe(to, udp(Some(b"x"), None), IMPATIENCE).await, of(FailureKind::Timeout));
        assert_eq!(probe(to, udp(None, Some(b"x")), IMPATIENCE).await, of(FailureKind::Timeout));
        drop(silent);
        assert_eq!(patient.probe().await, of(FailureKind::Refused), "with the socket of the probe before");
        assert_eq!(patient.probe().await, of(FailureKind::Refused), "and with another");
    }
}

#[tokio::test]
async fn udp_answers_are_looked_into_and_late_ones_are_not_taken_for_answers() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = server.local_addr().unwrap();
    let mut prober = prober(to, udp(Some(b"ping"), Some(b"pong")), IMPATIENCE);
    assert_eq!(prober.probe().await, of(FailureKind::Timeout));
    let mut asked = [0; 8];
    let (length, from) = server.recv_from(&mut asked).await.unwrap();
    assert_eq!(&asked[..length], b"ping");
    server.send_to(b"a pong, too late", from).await.unwrap();
    assert_eq!(prober.probe().await, of(FailureKind::Timeout), "nobody answered this one");

    let serve = tokio::spawn(async move {
        server.recv_from(&mut [0; 8]).await.unwrap();
        for answer in [&b"a pong, in time"[..], b"an error"] {
            let (_, from) = server.recv_from(&mut [0; 8]).await.unwrap();
            server.send_to(answer, from).await.unwrap();
        }
    });
    let mut prober = self::prober(to, udp(Some(b"ping"), Some(b"pong")), PATIENCE);
    assert_eq!(prober.probe().await, Ok(()));
    assert_eq!(prober.probe().await, of(FailureKind::Unexpected));
    serve.await.unwrap();
}

#[tokio::test]
async fn echoes_are_answered() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        assert_eq!(probe(address.parse().unwrap(), Probe::Icmp, PATIENCE).await, Ok(()), "{address}");
    }
}

#[tokio::test]
async fn a_host_that_no_route_leads_to_is_unreachable() {
    // Of a network namespace without any interface that is up.
    let alone = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("the tests run as root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let to = "192.0.2.1:80".parse().unwrap();
            let mut found = Vec::new();
            for kind in [Probe::Tcp, udp(None, None), http("", StatusRange::default()), Probe::Icmp] {
                found.push(probe(to, kind, PATIENCE).await);
            }
            found
        })
    });
    assert_eq!(alone.join().unwrap(), vec![of(FailureKind::Unreachable); 4]);
}
