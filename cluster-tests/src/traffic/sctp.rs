//! SCTP associations in user space, over raw sockets: enough of RFC 9260 to open, talk and close, with every checksum
//! verified. Not every kernel has the module.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::talk::Hello;
use crate::namespace::Handle;
use crate::workers::Workers;
use packet::{Chunk, Packet};

mod packet;

const SCTP: i32 = 132;
const TICK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(3);
const MESSAGES: u32 = 3;
const CLIENT_TAG: u32 = 0x0c11_e47a;
const SERVER_TAG: u32 = 0x5e44_e47a;
const COOKIE: u32 = 0xc00c_1e00;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// A raw socket of one family.
fn raw(v4: bool) -> anyhow::Result<Socket> {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket =
        Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP))).context("cannot open a raw socket")?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

/// The next packet and who sent it; none in time is `None`.
fn receive(socket: &Socket) -> anyhow::Result<Option<(IpAddr, Packet)>> {
    let mut bytes = [std::mem::MaybeUninit::<u8>::uninit(); 2048];
    let (got, from) = match socket.recv_from(&mut bytes) {
        Ok(received) => received,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            return Ok(None);
        }
        Err(error) => return Err(error).context("cannot receive"),
    };
    // SAFETY: the kernel has written the first `got` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u8>(), got) };
    let from = from.as_socket().context("a packet from no address")?.ip();
    // A raw IPv4 socket gives the IP header too.
    let start = if from.is_ipv4() { usize::from(bytes[0] & 0x0f) * 4 } else { 0 };
    Packet::decode(&bytes[start..]).map(|packet| Some((from, packet)))
}

fn send(socket: &Socket, to: IpAddr, packet: &Packet) -> anyhow::Result<()> {
    socket.send_to(&packet.encode(), &SocketAddr::new(to, 0).into()).context("cannot send")?;
    Ok(())
}

/// A server on some ports; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    workers: Workers<()>,
    /// Associations that were closed in good order.
    pub closed: Arc<AtomicU64>,
}

impl Server {
    /// Starts it, for both families.
    pub fn start(namespace: &Handle, number: u64, ports: &'static [u16]) -> anyhow::Result<Self> {
        let mut server = Server { workers: Workers::new("SCTP server"), closed: Arc::new(AtomicU64::new(0)) };
        for v4 in [true, false] {
            let socket = namespace.run(|| raw(v4))?;
            let closed = Arc::clone(&server.closed);
            server.workers.spawn_in(namespace, &format!("sctp-{number}"), move |stop| {
                let mut tags = HashMap::new();
                while !stop.requested() {
                    let Some((from, packet)) = receive(&socket)? else { continue };
                    if ports.contains(&packet.to) {
                        answer(&socket, number, from, &packet, &mut tags, &closed)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(server)
    }

    /// Stops it and says what went wrong, if anything.
    pub fn stop(self) -> anyhow::Result<()> {
        self.workers.stop().map(drop)
    }
}

fn answer(
    socket: &Socket,
    number: u64,
    from: IpAddr,
    packet: &Packet,
    tags: &mut HashMap<SocketAddr, u32>,
    closed: &AtomicU64,
) -> anyhow::Result<()> {
    let peer = SocketAddr::new(from, packet.from);
    let Some(chunk) = packet.chunks.first() else { bail!("a packet without a chunk") };
    if chunk.kind == INIT {
        ensure!(packet.tag == 0, "an INIT with a verification tag");
        tags.insert(peer, chunk.word(0)?);
    } else {
        ensure!(packet.tag == SERVER_TAG, "verification tag {:#x} from {peer}", packet.tag);
    }
    let tag =
        *tags.get(&peer).with_context(|| format!("chunk {} of no association from {peer}", chunk.kind))?;
    let reply = match chunk.kind {
        INIT => {
            let mut bytes = init(SERVER_TAG);
            // The state cookie's parameter.
            bytes.extend([0, 7, 0, 8]);
            bytes.extend(COOKIE.to_be_bytes());
            vec![Chunk { kind: INIT_ACK, flags: 0, bytes }]
        }
        COOKIE_ECHO => {
            ensure!(chunk.word(0)? == COOKIE, "another cookie");
            vec![Chunk { kind: COOKIE_ACK, flags: 0, bytes: Vec::new() }]
        }
        DATA => {
            let tsn = chunk.word(0)?;
            let mut text = Hello { server: number, peer }.to_string().into_bytes();
            text.extend(chunk.bytes.get(12..).context("too little data")?);
            vec![sack(tsn), data(tsn, &text)]
        }
        SACK => return Ok(()),
        SHUTDOWN => vec![Chunk { kind: SHUTDOWN_ACK, flags: 0, bytes: Vec::new() }],
        SHUTDOWN_COMPLETE => {
            closed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        other => bail!("chunk {other} from a client"),
    };
    send(socket, from, &Packet { from: packet.to, to: packet.from, tag, chunks: reply })
}

fn init(tag: u32) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend(65_536u32.to_be_bytes());
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(1u32.to_be_bytes());
    bytes
}

fn data(tsn: u32, text: &[u8]) -> Chunk {
    let mut bytes = tsn.to_be_bytes().to_vec();
    bytes.extend([0; 8]);
    bytes.extend(text);
    Chunk { kind: DATA, flags: 3, bytes }
}

fn sack(tsn: u32) -> Chunk {
    let mut bytes = tsn.to_be_bytes().to_vec();
    bytes.extend(65_536u32.to_be_bytes());
    bytes.extend([0; 4]);
    Chunk { kind: SACK, flags: 0, bytes }
}

/// Opens an association, sends some messages and has them back, and closes it. Says who answered.
pub fn associate(namespace: &Handle, from: SocketAddr, to: SocketAddr) -> anyhow::Result<Hello> {
    namespace.run(|| converse(from, to)).with_context(|| format!("SCTP from {from} to {to}"))
}

fn converse(from: SocketAddr, to: SocketAddr) -> anyhow::Result<Hello> {
    let socket = raw(to.is_ipv4())?;
    socket.bind(&SocketAddr::new(from.ip(), 0).into())?;
    let packet = |tag, chunks| Packet { from: from.port(), to: to.port(), tag, chunks };
    let one = |kind, bytes| vec![Chunk { kind, flags: 0, bytes }];
    let ask = |tag, chunks, wanted| -> anyhow::Result<Packet> {
        send(&socket, to.ip(), &packet(tag, chunks))?;
        hear(&socket, from, to, wanted)
    };
    let ack = ask(0, one(INIT, init(CLIENT_TAG)), INIT_ACK)?;
    let tag = ack.chunks[0].word(0)?;
    let cookie = ack.chunks[0].word(20)?;
    ask(tag, one(COOKIE_ECHO, cookie.to_be_bytes().to_vec()), COOKIE_ACK)?;
    let mut first = None;
    for tsn in 1..=MESSAGES {
        let text = format!("|message {tsn} of {}", from.port());
        let reply = ask(tag, vec![data(tsn, text.as_bytes())], SACK)?;
        let heard = reply.chunks.get(1).filter(|chunk| chunk.kind == DATA).context("no data in the reply")?;
        let heard = String::from_utf8(heard.bytes.get(12..).context("too little data")?.to_vec())?;
        let hello = heard.strip_suffix(&text).with_context(|| format!("{heard:?} is not the answer"))?;
        let hello: Hello = hello.parse()?;
        ensure!(*first.get_or_insert(hello) == hello, "was {first:?} and is {hello:?}");
        send(&socket, to.ip(), &packet(tag, vec![sack(tsn)]))?;
    }
    ask(tag, one(SHUTDOWN, MESSAGES.to_be_bytes().to_vec()), SHUTDOWN_ACK)?;
    send(&socket, to.ip(), &packet(tag, one(SHUTDOWN_COMPLETE, Vec::new())))?;
    first.context("no message")
}

fn hear(socket: &Socket, from: SocketAddr, to: SocketAddr, wanted: u8) -> anyhow::Result<Packet> {
    let deadline = Instant::now() + ANSWER;
    while Instant::now() < deadline {
        let Some((source, packet)) = receive(socket)? else { continue };
        if (source, packet.from, packet.to) != (to.ip(), to.port(), from.port()) {
            continue;
        }
        ensure!(packet.tag == CLIENT_TAG, "verification tag {:#x}", packet.tag);
        let kind = packet.chunks.first().context("a packet without a chunk")?.kind;
        ensure!(kind == wanted, "chunk {kind}, not {wanted}");
        return Ok(packet);
    }
    bail!("no chunk {wanted}")
}
