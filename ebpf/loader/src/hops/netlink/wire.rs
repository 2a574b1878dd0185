//! rtnetlink messages: the few fields that matter here, taken out of bytes. Everything unknown is skipped, so that a
//! newer kernel's attributes cannot blind this node.

use lockstep_abi::hop::HopKey;

use crate::hops::event::{HopEvent, Link, NUD_PERMANENT, Neighbour};

const HEADER: usize = 16;
const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// `linux/if_link.h`, `linux/neighbour.h`
const IFLA_INFO_KIND: u16 = 1;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_FLAGS_EXT: u16 = 15;
pub(super) const NTF_USE: u8 = 0x01;
const NTF_PROXY: u8 = 0x08;
const NTF_EXT_LEARNED: u8 = 0x10;
const NTF_EXT_MANAGED: u32 = 1;
/// `linux/fib_rules.h`: the destination, and what a rule does or is called; nothing that it asks for.
const FRA_HARMLESS: [u16; 6] = [
    1,  // FRA_DST
    6,  // FRA_PRIORITY
    13, // FRA_SUPPRESS_IFGROUP
    14, // FRA_SUPPRESS_PREFIXLEN
    15, // FRA_TABLE
    21, // FRA_PROTOCOL
];
/// `linux/rtnetlink.h`, where libc has none.
const RTM_NEWNETCONF: u16 = 80;
const RTM_DELNETCONF: u16 = 81;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// A message does not end where its length says, or is shorter than its type allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One message of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram. Ends after the first malformed one.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = first(bytes);
        bytes = match &message {
            Ok((_, length)) => bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]),
            Err(Malformed) => &[],
        };
        Some(message.map(|(message, _)| message))
    })
}

fn first(bytes: &[u8]) -> Result<(Message<'_>, usize), Malformed> {
    let length = u32_at(bytes, 0).ok_or(Malformed)? as usize;
    let body = bytes.get(HEADER..length).ok_or(Malformed)?;
    let message = Message {
        kind: u16_at(bytes, 4).ok_or(Malformed)?,
        flags: u16_at(bytes, 6).ok_or(Malformed)?,
        sequence: u32_at(bytes, 8).ok_or(Malformed)?,
        body,
    };
    Ok((message, length))
}

impl Message<'_> {
    /// What the message means here; `None`: nothing.
    pub(super) fn event(&self) -> Result<Option<HopEvent>, Malformed> {
        Ok(match self.kind {
            libc::RTM_NEWLINK => self.link()?.map(HopEvent::Link),
            libc::RTM_DELLINK => self.link_index()?.map(HopEvent::LinkGone),
            libc::RTM_NEWNEIGH => self.neighbour()?.map(HopEvent::Neighbour),
            libc::RTM_DELNEIGH => self.neighbour()?.map(|gone| HopEvent::NeighbourGone(gone.key)),
            libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(HopEvent::Routes),
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(HopEvent::Routes),
            libc::RTM_NEWRULE => Some(HopEvent::Rule(self.rule_asks_more()?)),
            libc::RTM_DELRULE => Some(HopEvent::RuleGone),
            RTM_NEWNETCONF | RTM_DELNETCONF => Some(HopEvent::Routes),
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Some(HopEvent::Routes),
            _ => None,
        })
    }

    /// The errno of an error or acknowledgement, positive; 0: acknowledged.
    pub(super) fn errno(&self) -> Result<i32, Malformed> {
        Ok((u32_at(self.body, 0).ok_or(Malformed)? as i32).wrapping_neg())
    }

    /// `None`: about a bridge's port, which is not the link itself.
    fn link_index(&self) -> Result<Option<u32>, Malformed> {
        let family = *self.body.first().ok_or(Malformed)?;
        let ifindex = u32_at(self.body, 4).ok_or(Malformed)?;
        Ok((family == libc::AF_UNSPEC as u8).then_some(ifindex))
    }

    /// `struct ifinfomsg`
    fn link(&self) -> Result<Option<Link>, Malformed> {
        let Some(ifindex) = self.link_index()? else { return Ok(None) };
        let kind = u16_at(self.body, 2).ok_or(Malformed)?;
        let flags = u32_at(self.body, 8).ok_or(Malformed)?;
        let has = |flag: libc::c_int| flags & flag as u32 != 0;
        let mut link = Link {
            ifindex,
            name: String::new(),
            ethernet: kind == libc::ARPHRD_ETHER && !has(libc::IFF_NOARP) && !has(libc::IFF_LOOPBACK),
            running: has(libc::IFF_UP) && has(libc::IFF_LOWER_UP),
            mac: None,
            mtu: 0,
            master: 0,
            kind: None,
        };
        for attribute in attributes(self.body.get(16..).ok_or(Malformed)?) {
            let (kind, value) = attribute?;
            match kind {
                libc::IFLA_IFNAME => link.name = text(value),
                libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
                libc::IFLA_MTU => link.mtu = u32_at(value, 0).ok_or(Malformed)?,
                libc::IFLA_MASTER => link.master = u32_at(value, 0).ok_or(Malformed)?,
                libc::IFLA_LINKINFO => link.kind = info_kind(value)?,
                _ => {}
            }
        }
        // News of a wireless driver come as a link without its properties.
        Ok((link.mtu != 0 && !link.name.is_empty()).then_some(link))
    }

    /// `struct fib_rule_hdr`: whether the rule looks at more of a packet than its destination. What is not known here
    /// may do that.
    fn rule_asks_more(&self) -> Result<bool, Malformed> {
        let source_bits = *self.body.get(2).ok_or(Malformed)?;
        let type_of_service = *self.body.get(3).ok_or(Malformed)?;
        let mut asks = source_bits != 0 || type_of_service != 0;
        for attribute in attributes(self.body.get(12..).ok_or(Malformed)?) {
            asks |= !FRA_HARMLESS.contains(&attribute?.0);
        }
        Ok(asks)
    }

    /// `struct ndmsg`. `None`: not a neighbour of IPv4 or IPv6 (but a bridge's or a proxy's).
    fn neighbour(&self) -> Result<Option<Neighbour>, Malformed> {
        let family = *self.body.first().ok_or(Malformed)?;
        let ifindex = u32_at(self.body, 4).ok_or(Malformed)?;
        let state = u16_at(self.body, 8).ok_or(Malformed)?;
        let flags = *self.body.get(10).ok_or(Malformed)?;
        let mut destination: Option<&[u8]> = None;
        let mut mac = None;
        let mut extended = 0;
        for attribute in attributes(self.body.get(12..).ok_or(Malformed)?) {
            match attribute? {
                (NDA_DST, value) => destination = Some(value),
                (NDA_LLADDR, value) => mac = value.try_into().ok(),
                (NDA_FLAGS_EXT, value) => extended = u32_at(value, 0).ok_or(Malformed)?,
                _ => {}
            }
        }
        let (family, words) = match (family, destination.map(<[u8]>::len)) {
            (AF_INET, Some(4)) => (4, 1),
            (AF_INET6, Some(16)) => (6, 4),
            _ => return Ok(None),
        };
        let mut address = [0; 4];
        for (word, to) in address.iter_mut().enumerate().take(words) {
            *to = destination.and_then(|bytes| u32_at(bytes, word * 4)).ok_or(Malformed)?;
        }
        let kept =
            state & NUD_PERMANENT != 0 || flags & NTF_EXT_LEARNED != 0 || extended & NTF_EXT_MANAGED != 0;
        let neighbour = Neighbour { key: HopKey { ifindex, family, address }, mac, state, kept };
        Ok((flags & NTF_PROXY == 0).then_some(neighbour))
    }
}

fn info_kind(nested: &[u8]) -> Result<Option<String>, Malformed> {
    for attribute in attributes(nested) {
        if let (IFLA_INFO_KIND, value) = attribute? {
            return Ok(Some(text(value)));
        }
    }
    Ok(None)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Types and values of a list of `struct rtattr`.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of the type.
    const TYPE: u16 = 0x3fff;
    std::iter::from_fn(move || {
        if bytes.len() < 4 {
            return None;
        }
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE;
        let Some(value) = bytes.get(4..length) else {
            bytes = &[];
            return Some(Err(Malformed));
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok((kind, value)))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A request to list everything: `RTM_GETLINK`, `RTM_GETNEIGH` or `RTM_GETRULE`.
pub(super) fn dump(kind: u16, sequence: u32) -> Vec<u8> {
    // `struct ndmsg`, `struct fib_rule_hdr` or `struct ifinfomsg`, of any family.
    let body: &[u8] = if kind == libc::RTM_GETLINK { &[0; 16] } else { &[0; 12] };
    message(kind, libc::NLM_F_REQUEST as u16 | libc::NLM_F_DUMP as u16, sequence, body)
}

/// "This neighbour is in use": the kernel confirms it as if it had sent a packet there. No flag to create it, so an
/// entry that has gone meanwhile stays away.
pub(super) fn use_neighbour(key: &HopKey, sequence: u32) -> Vec<u8> {
    let (family, words) = if key.family == 4 { (AF_INET, 1) } else { (AF_INET6, 4) };
    let mut body = vec![family, 0, 0, 0];
    body.extend(key.ifindex.to_ne_bytes());
    // No state: the kernel keeps the one it has.
    body.extend(0u16.to_ne_bytes());
    body.extend([NTF_USE, 0]);
    body.extend((4 + words as u16 * 4).to_ne_bytes());
    body.extend(NDA_DST.to_ne_bytes());
    key.address.iter().take(words).for_each(|word| body.extend(word.to_ne_bytes()));
    message(libc::RTM_NEWNEIGH, libc::NLM_F_REQUEST as u16, sequence, &body)
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests;
