//! From a packet that is no plain TCP or UDP to its key: what kind of packet it is, and whose.

use core::ptr::addr_of_mut;

use lockstep_abi::flow::FlowKey;
use lockstep_abi::reason::Reason;
use lockstep_abi::{ICMPV6, SCTP, TCP, UDP};
use lockstep_packet::fragment::{FragmentValue, Role, acceptable, ports};
use lockstep_packet::icmp::{Class, echo_ports};
use lockstep_packet::ip::Ip;
use lockstep_packet::offset::NETWORK;
use lockstep_packet::{icmp6, l4, sctp};

use crate::family::Family;
use crate::guard::is_endpoint;
use crate::hook::Tc;
use crate::lease::precise_ns;
use crate::special::family::Special;
use crate::special::walk::{PACKET, Walk, options_allowed};

/// What a packet is: [`read`]'s answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of a protocol that has flows; its key is kept.
    Flow,
    /// An ICMP error.
    Error,
    /// A neighbour solicitation.
    Solicitation,
    /// Other neighbour discovery.
    Neighbour,
    /// Of a protocol without flows.
    Other,
    /// To be refused, where it concerns an address or an endpoint of ours.
    Refused(Reason),
}

/// Below this number stand the kinds that have no reason.
const FIRST_REASON: i32 = 5;

impl Kind {
    /// In one word, for a function that the verifier looks at by itself.
    #[inline(always)]
    pub(crate) fn pack(self) -> i32 {
        match self {
            Kind::Flow => 0,
            Kind::Error => 1,
            Kind::Solicitation => 2,
            Kind::Neighbour => 3,
            Kind::Other => 4,
            Kind::Refused(reason) => FIRST_REASON + reason as i32,
        }
    }

    #[inline(always)]
    pub(crate) fn unpack(word: i32) -> Self {
        match word {
            0 => Kind::Flow,
            1 => Kind::Error,
            2 => Kind::Solicitation,
            3 => Kind::Neighbour,
            4 => Kind::Other,
            word => Kind::Refused(Reason::of((word - FIRST_REASON) as u32)),
        }
    }
}

/// Walks over the headers and keeps the key.
#[inline(always)]
pub(crate) fn read<F: Special>(hook: &Tc) -> Kind {
    match kind::<F>(hook) {
        Ok(kind) => kind,
        Err(reason) => Kind::Refused(reason),
    }
}

#[inline(always)]
fn kind<F: Special>(hook: &Tc) -> Result<Kind, Reason> {
    let ip = F::ip(hook).ok_or(Reason::Malformed)??;
    let walk = Walk::of(PACKET)?;
    F::walk(hook, NETWORK, walk)?;
    if ip.options && !options_allowed(hook, walk) {
        return Err(Reason::IpOptions);
    }
    let role = walk.role();
    if role != Role::Whole && !acceptable(walk.protocol, walk.offset_bytes, walk.more, walk.bytes) {
        return Err(Reason::Fragment);
    }
    let key = F::key_room().ok_or(Reason::Malformed)?;
    // SAFETY: the element is this CPU's own, and programs of one hook do not nest; words one after the other, which
    // need no room on the stack.
    unsafe {
        addr_of_mut!((*key).source_be).write(ip.source_be);
        addr_of_mut!((*key).destination_be).write(ip.destination_be);
        addr_of_mut!((*key).pad).write([0; 3]);
    }
    if role == Role::Later {
        let first = F::remembered(&ip, walk).ok_or(Reason::FragmentWithoutFirst)?;
        let (source, destination) = ports(first, precise_ns()).ok_or(Reason::FragmentWithoutFirst)?;
        walk.protocol = first.protocol;
        // Not the first of anything.
        walk.flags = l4::ACK;
        // SAFETY: the same.
        unsafe { set(key, source, destination, first.protocol) };
        return Ok(Kind::Flow);
    }
    let (source, destination) = match transport::<F>(hook, walk)? {
        Shown::Ports(source, destination) => (source, destination),
        Shown::Kind(kind) => return Ok(kind),
    };
    // SAFETY: the same.
    unsafe { set(key, source, destination, walk.protocol) };
    if role == Role::First && followed::<F>(&ip) {
        F::remember(
            &ip,
            walk,
            &FragmentValue {
                seen_ns: precise_ns(),
                source_port_be: source,
                destination_port_be: destination,
                protocol: walk.protocol,
                pad: [0; 3],
            },
        );
    }
    Ok(Kind::Flow)
}

/// Whether a packet's later fragments will need its ports. What merely passes by would only fill the table.
#[inline(always)]
fn followed<F: Family>(ip: &Ip<F::Address>) -> bool {
    F::address_index(&ip.destination_be).is_some()
        || is_endpoint::<F>(&ip.source_be)
        || F::transit(&ip.source_be).is_some()
}

/// # Safety
/// `key` points to the CPU's own key.
#[inline(always)]
unsafe fn set<A>(key: *mut FlowKey<A>, source_port_be: u16, destination_port_be: u16, protocol: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        addr_of_mut!((*key).source_port_be).write(source_port_be);
        addr_of_mut!((*key).destination_port_be).write(destination_port_be);
        addr_of_mut!((*key).protocol).write(protocol);
    }
}

/// What a transport header shows.
enum Shown {
    /// Source and destination.
    Ports(u16, u16),
    /// No ports.
    Kind(Kind),
}

#[inline(always)]
fn transport<F: Special>(hook: &Tc, walk: &mut Walk) -> Result<Shown, Reason> {
    let at = walk.transport;
    if walk.protocol == F::ICMP {
        return message::<F>(hook, walk);
    }
    let least = match walk.protocol {
        TCP => 20,
        UDP => 8,
        SCTP => 16,
        _ => return Ok(Shown::Kind(Kind::Other)),
    };
    if walk.bytes < least {
        return Err(Reason::Malformed);
    }
    if walk.protocol == SCTP {
        let packet = sctp::parse(&hook.load(at).ok_or(Reason::Malformed)?).ok_or(Reason::Malformed)?;
        walk.flags = l4::chunk_flags(packet.chunk);
        return Ok(Shown::Ports(packet.source_port_be, packet.destination_port_be));
    }
    let [source, destination]: [u16; 2] = hook.load(at).ok_or(Reason::Malformed)?;
    if walk.protocol == TCP {
        walk.flags = hook.load(at + 13).ok_or(Reason::Malformed)?;
        if l4::contradictory(walk.flags) {
            return Err(Reason::TcpFlags);
        }
    }
    Ok(Shown::Ports(source, destination))
}

/// ICMP.
#[inline(always)]
fn message<F: Special>(hook: &Tc, walk: &mut Walk) -> Result<Shown, Reason> {
    if walk.bytes < 8 {
        return Err(Reason::Malformed);
    }
    let [first, _, id_be, _]: [u16; 4] = hook.load(walk.transport).ok_or(Reason::Malformed)?;
    let kind = first.to_ne_bytes()[0];
    walk.icmp = kind;
    Ok(match F::class(kind) {
        // The identifier stands on the asking side.
        Class::EchoRequest => Shown::Ports(id_be, 0),
        Class::EchoReply => Shown::Ports(0, id_be),
        Class::Error => Shown::Kind(Kind::Error),
        Class::Other if F::ICMP != ICMPV6 => Shown::Kind(Kind::Other),
        Class::Other => Shown::Kind(match kind {
            icmp6::SOLICITATION => Kind::Solicitation,
            icmp6::ROUTER_SOLICITATION..=icmp6::REDIRECT => Kind::Neighbour,
            _ => Kind::Other,
        }),
    })
}
const _: () = assert!(matches!(echo_ports(8, 7), Some((7, 0))) && matches!(echo_ports(0, 7), Some((0, 7))));
