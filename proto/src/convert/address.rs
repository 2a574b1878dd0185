//! IP and socket addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ConvertError, Problem, port};
use crate::types::v1 as pb;

/// The bytes of an address in network order: 4 or 16.
pub fn address_to_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address of 4 or 16 bytes.
pub fn address_from_bytes(field: &str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(IpAddr::V6(Ipv6Addr::from(v6))),
        Err(_) => Err(ConvertError::new(field, Problem::AddressLength(bytes.len()))),
    }
}

pub(crate) fn addresses_from_bytes(field: &str, list: &[Vec<u8>]) -> Result<Vec<IpAddr>, ConvertError> {
    let convert = |(i, bytes): (usize, &Vec<u8>)| address_from_bytes(&format!("{field}[{i}]"), bytes);
    list.iter().enumerate().map(convert).collect()
}

impl From<SocketAddr> for pb::SocketAddress {
    fn from(address: SocketAddr) -> Self {
        pb::SocketAddress { address: address_to_bytes(address.ip()), port: address.port().into() }
    }
}

impl TryFrom<pb::SocketAddress> for SocketAddr {
    type Error = ConvertError;

    fn try_from(wire: pb::SocketAddress) -> Result<Self, ConvertError> {
        Ok(SocketAddr::new(address_from_bytes("address", &wire.address)?, port("port", wire.port)?))
    }
}
