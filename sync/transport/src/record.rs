//! The packed record array of a batch, versions 2 and 3. All integers are little-endian; those written "v" are LEB128 in
//! version 3 (seven bits a byte, the low ones first, in as few bytes as they need), and of eight bytes in version 2.
//!
//! ```text
//! offset  size  field
//!      0     1  flags: 1 removal, 2 the flow is IPv6, 4 the endpoint is IPv6, 8 there is a translated source,
//!               16 it is IPv6 (other bits: 0)
//!      1     1  IANA protocol; of ICMP echo that of the flow's family, 1 or 58
//!      2     1  state: 0 new, 1 established, 2 closing, 3 closed, 4 reset-pending; of a removal: 0
//!      3     1  kind: 0 nat, 1 dsr-l2, 2 dsr-ipip, 3 dsr-gue; of a removal: 0
//!      4     2  client port
//!      6     2  service port
//!      8     8  birth
//!     16     v  n
//!            a  client address (a = 4 or 16)
//!            a  service address
//! --- a removal ends here
//!            v  service id, or that of an SNAT rule
//!            v  endpoint id
//!            4  state bits
//!            4  remaining, milliseconds
//!            2  endpoint port
//!            2  port of the translated source; 0 where there is none
//!            e  endpoint address (e = 4 or 16)
//!            s  address of the translated source (s = 0, 4 or 16)
//! ```
//!
//! So an IPv4 flow takes 64 bytes in version 2 and about 44 in version 3, 4 more with a translated source, and no flow more
//! than 122.
//!
//! The group is the batch's. Version 1 had neither source nor kind (flags 8 and 16, byte 3 and the two bytes of the source's
//! port were 0) and other state bits, which only programs of its time can read: it is refused. A stream's version is the
//! highest that both sides understand ([`RecordVersions::common`]); where there is none, the origin refuses the subscriber.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lockstep_model::flow::{FlowChange, FlowKey, FlowKind, FlowRecord, FlowState, FlowVersion};
use lockstep_model::ids::{EndpointId, GroupId, ServiceId};
use lockstep_model::protocol::{Family, Protocol};
use lockstep_sync_core::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_RECORD_BYTES};

/// The versions of the layout above that a node reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordVersions {
    /// The lowest.
    pub oldest: u32,
    /// The highest.
    pub newest: u32,
}

/// What this version of the daemon understands.
pub const RECORD_VERSIONS: RecordVersions = RecordVersions { oldest: 2, newest: 3 };

/// From this version on, numbers take as few bytes as they need.
const SHORT_NUMBERS: u32 = 3;

impl RecordVersions {
    /// The highest that both understand.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    /// Whether it is one of them.
    pub fn contain(self, version: u32) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for RecordVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

const REMOVAL: u8 = 1;
const FLOW_V6: u8 = 2;
const ENDPOINT_V6: u8 = 4;
const SOURCE: u8 = 8;
const SOURCE_V6: u8 = 16;

/// Bytes of the longest number in version 3.
const MAX_NUMBER: usize = 10;

/// What only an upsert has.
const UPSERT_ONLY: u8 = ENDPOINT_V6 | SOURCE | SOURCE_V6;

const _: () = assert!(16 + 3 * MAX_NUMBER + 2 * 16 + 12 + 16 + 16 == MAX_RECORD_BYTES);

/// Why a record array cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A layout that this node does not know.
    #[error("record version {0}; known: {RECORD_VERSIONS}")]
    Version(u32),
    /// More than a batch may hold.
    #[error("{0} records in {1} bytes; allowed: {MAX_BATCH_RECORDS} in {MAX_BATCH_BYTES}")]
    TooLarge(usize, usize),
    /// It ends within a record, or goes on behind the last one.
    #[error("the records do not end where the array does")]
    Length,
    /// A field has a value that means nothing.
    #[error("record {index}: {field} is {value}, which means nothing")]
    Field {
        /// Which record.
        index: usize,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
}

/// Packs a batch, in a version that is known here.
pub fn encode(version: u32, changes: &[FlowChange]) -> Vec<u8> {
    assert!(RECORD_VERSIONS.contain(version), "no stream has a version that is not known here");
    let mut out = Vec::with_capacity(changes.len() * 68);
    for change in changes {
        encode_one(version, &mut out, change);
    }
    out
}

fn put_number(version: u32, out: &mut Vec<u8>, mut number: u64) {
    if version < SHORT_NUMBERS {
        return out.extend(number.to_le_bytes());
    }
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn encode_one(layout: u32, out: &mut Vec<u8>, change: &FlowChange) {
    let (key, version) = (change.key(), change.version());
    let v6 = key.client.is_ipv6() || key.service.is_ipv6();
    let (mut flags, mut state, mut kind) = (if v6 { FLOW_V6 } else { 0 }, 0, 0);
    match change {
        FlowChange::Upsert(record) => {
            flags |= if record.endpoint_address.is_ipv6() { ENDPOINT_V6 } else { 0 };
            flags |= match record.source {
                None => 0,
                Some(SocketAddr::V4(_)) => SOURCE,
                Some(SocketAddr::V6(_)) => SOURCE | SOURCE_V6,
            };
            state = code(&STATES, record.state);
            kind = code(&KINDS, record.kind);
        }
        FlowChange::Remove { .. } => flags |= REMOVAL,
    }
    out.extend([flags, key.protocol.number(family(v6)), state, kind]);
    out.extend(key.client.port().to_le_bytes());
    out.extend(key.service.port().to_le_bytes());
    out.extend(version.birth.to_le_bytes());
    put_number(layout, out, version.n);
    put_address(out, key.client.ip(), v6);
    put_address(out, key.service.ip(), v6);
    if let FlowChange::Upsert(record) = change {
        put_number(layout, out, record.service.get());
        put_number(layout, out, record.endpoint.get());
        out.extend(record.state_bits.to_le_bytes());
        let remaining = u32::try_from(record.remaining.as_millis()).unwrap_or(u32::MAX);
        out.extend(remaining.to_le_bytes());
        out.extend(record.endpoint_address.port().to_le_bytes());
        out.extend(record.source.map_or(0, |source| source.port()).to_le_bytes());
        put_address(out, record.endpoint_address.ip(), record.endpoint_address.is_ipv6());
        if let Some(source) = record.source {
            put_address(out, source.ip(), source.is_ipv6());
        }
    }
}

const fn family(v6: bool) -> Family {
    if v6 { Family::V6 } else { Family::V4 }
}

/// Both addresses of a flow take the same room: an IPv4 one among IPv6 is mapped (RFC 4291 section 2.5.5.2).
fn put_address(out: &mut Vec<u8>, address: IpAddr, v6: bool) {
    match (address, v6) {
        (IpAddr::V4(v4), false) => out.extend(v4.octets()),
        (IpAddr::V4(v4), true) => out.extend(v4.to_ipv6_mapped().octets()),
        (IpAddr::V6(address), _) => out.extend(address.octets()),
    }
}

/// Unpacks a batch of `group` that says it holds `count` records.
pub fn decode(
    version: u32,
    group: GroupId,
    count: u32,
    bytes: &[u8],
) -> Result<Vec<FlowChange>, RecordError> {
    if !RECORD_VERSIONS.contain(version) {
        return Err(RecordError::Version(version));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_BATCH_RECORDS || bytes.len() > MAX_BATCH_BYTES {
        return Err(RecordError::TooLarge(count, bytes.len()));
    }
    let mut reader = Reader { bytes, version, index: 0 };
    let mut changes = Vec::with_capacity(count);
    for index in 0..count {
        reader.index = index;
        changes.push(reader.record(group)?);
    }
    if reader.bytes.is_empty() { Ok(changes) } else { Err(RecordError::Length) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    version: u32,
    index: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(RecordError::Length)?;
        self.bytes = tail;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.take().map(u64::from_le_bytes)
    }

    /// In version 3 the shortest form only, so that a record has one form.
    fn number(&mut self) -> Result<u64, RecordError> {
        if self.version < SHORT_NUMBERS {
            return self.u64();
        }
        let mut number = 0;
        for shift in (0..).step_by(7).take(MAX_NUMBER) {
            let [byte] = self.take()?;
            let part = u64::from(byte & 0x7f);
            number |= part << shift;
            if (part << shift) >> shift != part || (byte == 0 && shift > 0) {
                return self.meaningless("number", byte);
            }
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        self.meaningless("number", 0x80)
    }

    fn address(&mut self, v6: bool) -> Result<IpAddr, RecordError> {
        if v6 {
            self.take::<16>().map(|octets| Ipv6Addr::from(octets).to_canonical())
        } else {
            self.take::<4>().map(|octets| Ipv4Addr::from(octets).into())
        }
    }

    fn meaningless<T>(&self, field: &'static str, value: u8) -> Result<T, RecordError> {
        Err(RecordError::Field { index: self.index, field, value })
    }

    fn record(&mut self, group: GroupId) -> Result<FlowChange, RecordError> {
        let [flags, number, state, kind] = self.take()?;
        let known = REMOVAL | FLOW_V6 | UPSERT_ONLY;
        let removal = flags & REMOVAL != 0;
        if flags & !known != 0
            || (removal && flags & UPSERT_ONLY != 0)
            || flags & (SOURCE | SOURCE_V6) == SOURCE_V6
        {
            return self.meaningless("flags", flags);
        }
        let v6 = flags & FLOW_V6 != 0;
        let protocol = Protocol::from_number(number).filter(|p| p.number(family(v6)) == number);
        let Some(protocol) = protocol else { return self.meaningless("protocol", number) };
        let (client_port, service_port) = (self.u16()?, self.u16()?);
        let version = FlowVersion { birth: self.u64()?, n: self.number()? };
        let client = SocketAddr::new(self.address(v6)?, client_port);
        let service = SocketAddr::new(self.address(v6)?, service_port);
        let key = FlowKey { client, service, protocol };
        if removal {
            return match (state, kind) {
                (0, 0) => Ok(FlowChange::Remove { key, group, version }),
                (0, kind) => self.meaningless("kind", kind),
                (state, _) => self.meaningless("state", state),
            };
        }
        let Some(state) = of_code(&STATES, state) else { return self.meaningless("state", state) };
        let Some(kind) = of_code(&KINDS, kind) else { return self.meaningless("kind", kind) };
        let (service, endpoint) = (ServiceId(self.number()?), EndpointId(self.number()?));
        let (state_bits, remaining) = (self.u32()?, self.u32()?);
        let (endpoint_port, source_port) = (self.u16()?, self.u16()?);
        if flags & SOURCE == 0 && source_port != 0 {
            let [low, high] = source_port.to_le_bytes();
            return self.meaningless("source port", low | high);
        }
        let endpoint_address = SocketAddr::new(self.address(flags & ENDPOINT_V6 != 0)?, endpoint_port);
        let source = if flags & SOURCE == 0 {
            None
        } else {
            Some(SocketAddr::new(self.address(flags & SOURCE_V6 != 0)?, source_port))
        };
        let remaining = Duration::from_millis(remaining.into());
        Ok(FlowChange::Upsert(FlowRecord {
            key,
            group,
            service,
            endpoint,
            endpoint_address,
            source,
            kind,
            version,
            state,
            state_bits,
            remaining,
        }))
    }
}

/// By their codes on the wire.
const STATES: [FlowState; 5] =
    [FlowState::New, FlowState::Established, FlowState::Closing, FlowState::Closed, FlowState::ResetPending];

/// By their codes on the wire.
const KINDS: [FlowKind; 4] = [FlowKind::Nat, FlowKind::DsrL2, FlowKind::DsrIpip, FlowKind::DsrGue];

fn code<T: PartialEq>(codes: &[T], value: T) -> u8 {
    codes.iter().position(|listed| *listed == value).expect("every value is listed") as u8
}

fn of_code<T: Copy>(codes: &[T], code: u8) -> Option<T> {
    codes.get(usize::from(code)).copied()
}
