//! Packets in, bytes and verdicts out.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::ProgramFd;
use lockstep_abi::map;
use lockstep_abi::reason::Reason;

use crate::case::{Hook, Side, endpoint_mac};
use crate::frame::{ACK, Packet, SYN, TCP, flags_of};
use crate::rig::Rig;
use crate::sys;

/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` (Linux 6.11): the packet comes with its sum, as from a device that sums whole packets,
/// and must leave with what is then its sum.
const SUM_AND_COMPARE: u32 = 1 << 2;

/// What a hook does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pass,
    Drop,
    /// To an interface, which the MACs tell.
    Redirect,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) action: Action,
    pub(crate) frame: Vec<u8>,
    /// Counters that moved, without what XDP handed on.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// Whether XDP decided by itself.
    pub(crate) by_xdp: bool,
}

impl Sent {
    pub(crate) fn dropped(&self, reason: Reason) {
        assert_eq!(self.action, Action::Drop, "{self:?}");
        assert_eq!(self.count(reason), 1, "{self:?}");
    }

    pub(crate) fn passed(&self, reason: Reason) {
        assert_eq!(self.action, Action::Pass, "{self:?}");
        assert_eq!(self.reasons, BTreeMap::from([(reason.name(), 1)]), "{self:?}");
    }

    /// The packet that left, its checksums verified.
    pub(crate) fn forwarded(&self, reason: Reason) -> Packet {
        assert_eq!(self.action, Action::Redirect, "{self:?}");
        assert_eq!(self.count(reason), 1, "{self:?}");
        Packet::parse(&self.frame)
    }

    /// Dropped, and the sender told so.
    pub(crate) fn answered(&self, reason: Reason, answer: Reason) {
        assert_eq!(self.action, Action::Redirect, "{self:?}");
        assert_eq!((self.count(reason), self.count(answer)), (1, 1), "{self:?}");
    }

    pub(crate) fn count(&self, reason: Reason) -> u64 {
        self.reasons.get(reason.name()).copied().unwrap_or(0)
    }
}

fn tc_action(action: u32) -> Action {
    match action as i32 {
        -1 => Action::Pass,
        2 => Action::Drop,
        7 => Action::Redirect,
        other => panic!("tc's action {other}"),
    }
}

impl Rig {
    /// Runs the tc program over a frame that came in at an interface.
    fn run_tc(&self, ifindex: u32, frame: &[u8]) -> (Action, Vec<u8>) {
        // The beginning of `struct __sk_buff`, up to `ifindex`.
        let mut context = [0u8; 44];
        context[40..].copy_from_slice(&ifindex.to_ne_bytes());
        let program: &aya::programs::SchedClassifier =
            self.loaded().ebpf.program(map::PROGRAM_TC).unwrap().try_into().unwrap();
        let flags = if self.summed { SUM_AND_COMPARE } else { 0 };
        let (action, out) = match test_run(program.fd().unwrap(), &context, frame, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EBADMSG) => {
                panic!("the sum that the device made is not the packet's any more: {frame:?}")
            }
            result => result.unwrap(),
        };
        (tc_action(action), out)
    }

    /// The same with the XDP program. `None`: handed on.
    fn run_xdp(&self, ifindex: u32, frame: &[u8]) -> (Option<Action>, Vec<u8>) {
        // `struct xdp_md`: data, its end, metadata, ingress interface, queue, egress interface.
        let words = [0, frame.len() as u32, 0, ifindex, 0, 0];
        let context = words.map(u32::to_ne_bytes).concat();
        let program: &aya::programs::Xdp =
            self.loaded().ebpf.program(map::PROGRAM_XDP).unwrap().try_into().unwrap();
        let (action, out) = test_run(program.fd().unwrap(), &context, frame, 0).unwrap();
        let action = match action {
            1 => Action::Drop,
            2 => return (None, out),
            3 | 4 => {
                let back = [Side::Clients, Side::Endpoints]
                    .iter()
                    .any(|side| self.ifindex(*side) == ifindex && out[6..12] == side.own_mac());
                assert_eq!(action == 3, back, "sent back where it came from, and only then: {out:?}");
                Action::Redirect
            }
            other => panic!("XDP's action {other}"),
        };
        (Some(action), out)
    }

    /// Takes a frame through the programs as the kernel does; also whether XDP decided.
    pub(crate) fn run(&self, ifindex: u32, frame: &[u8]) -> (Action, Vec<u8>, bool) {
        if self.case.hook == Hook::Xdp {
            match self.run_xdp(ifindex, frame) {
                (Some(action), out) => return (action, out, true),
                (None, out) => assert!(out == frame, "what is handed on is as it was: {out:?}"),
            }
        }
        let (action, out) = self.run_tc(ifindex, frame);
        (action, out, false)
    }

    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let fd = self.loaded().tables.fd(map::COUNTERS).as_fd().try_clone_to_owned().unwrap();
        let data = Map::PerCpuArray(MapData::from_fd(fd).unwrap());
        let counters = PerCpuArray::<MapData, u64>::try_from(data).unwrap();
        let sum = |reason: &Reason| counters.get(&(*reason as u32), 0).unwrap().iter().sum();
        Reason::ALL.iter().map(|reason| (reason.name(), sum(reason))).collect()
    }

    /// Sends a frame into an interface. Whatever the hook, the outcome is what it would be at tc.
    pub(crate) fn send(&self, ifindex: u32, frame: &[u8]) -> Sent {
        let before = self.counters();
        let (action, frame, by_xdp) = self.run(ifindex, frame);
        let after = self.counters();
        let moved = after.into_iter().map(|(name, n)| (name, n - before[name])).filter(|(_, n)| *n > 0);
        let mut reasons: BTreeMap<_, _> = moved.collect();
        let handed_on = reasons.remove(Reason::XdpPassed.name()).unwrap_or(0);
        let expected = u64::from(self.case.hook == Hook::Xdp && !by_xdp);
        assert_eq!(handed_on, expected, "what XDP hands on is counted as that: {reasons:?}");
        Sent { action, frame, reasons, by_xdp }
    }

    /// Sends a packet into the interface that it is addressed to.
    pub(crate) fn send_packet(&self, packet: &Packet) -> Sent {
        let ifindex =
            if packet.to == Side::Endpoints.own_mac() { self.endpoint_side } else { self.client_side };
        self.send(ifindex, &packet.bytes())
    }

    pub(crate) fn client_sends(&self, packet: &Packet) -> Sent {
        self.send(self.client_side, &packet.bytes())
    }

    pub(crate) fn endpoint_sends(&self, packet: &Packet) -> Sent {
        self.send(self.endpoint_side, &packet.bytes())
    }

    /// Completes a handshake; the endpoint that was chosen.
    pub(crate) fn connect(&self, port: u16) -> u8 {
        self.connect_by(&self.tcp(port, SYN))
    }

    /// The same with this SYN, whatever is translated.
    pub(crate) fn connect_by(&self, syn: &Packet) -> u8 {
        let out = self.send_packet(syn).forwarded(Reason::ForwardedSlow);
        self.send_packet(&out.answer(SYN | ACK)).forwarded(Reason::ForwardedSlow);
        self.send_packet(&Packet { flags: ACK, ..syn.clone() }).forwarded(Reason::ForwardedSlow);
        crate::rig::service::endpoint_of(out.destination.0)
    }

    /// From the client's port to the VIP's port 80.
    pub(crate) fn request(&self, protocol: u8, port: u16, flags: u8) -> Packet {
        Packet {
            to: Side::Clients.own_mac(),
            from: Side::Clients.mac(50),
            source: (self.net.client(), port),
            destination: (self.net.vip(), 80),
            protocol,
            ttl: 64,
            flags: flags_of(protocol, flags),
            payload: b"question".to_vec(),
        }
    }

    pub(crate) fn tcp(&self, port: u16, flags: u8) -> Packet {
        self.request(TCP, port, flags)
    }

    /// From endpoint `n` to the client's port.
    pub(crate) fn reply(&self, protocol: u8, n: u8, port: u16, flags: u8) -> Packet {
        Packet {
            to: crate::case::endpoint_side(n).own_mac(),
            from: endpoint_mac(n),
            source: self.net.endpoint(n),
            destination: (self.net.client(), port),
            protocol,
            ttl: 64,
            flags: flags_of(protocol, flags),
            payload: b"an answer".to_vec(),
        }
    }
}

fn test_run(program: &ProgramFd, context: &[u8], frame: &[u8], flags: u32) -> io::Result<(u32, Vec<u8>)> {
    let mut out = vec![0; frame.len() + 256];
    let (action, length) = sys::test_run(program.as_fd(), context, frame, &mut out, flags)?;
    out.truncate(length as usize);
    Ok((action, out))
}
