//! How many source ports of the addresses that flows leave with are in use.

use std::collections::HashMap;
use std::net::IpAddr;

use lockstep_abi::address::{AddressValue, PORT_BLOCK};
use lockstep_abi::flow::FlowKey;

use crate::family::{KernelFamily, number};

/// What the sweeper's last pass found of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUsage {
    /// The address.
    pub address: IpAddr,
    /// The blocks the address has, and any others that flows still use.
    pub blocks: Vec<BlockUsage>,
    /// Ports of all blocks that at least one flow leaves from, whatever its protocol.
    pub ports_used: u32,
    /// Ports of the blocks the address has.
    pub ports_total: u32,
}

/// A block of 1024 ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockUsage {
    /// Ports 1024 `block` to 1024 `block` + 1023.
    pub block: u8,
    /// Whether new flows may take ports of it.
    pub allocated: bool,
    /// How many of them are in use.
    pub ports_used: u32,
}

const BLOCKS: usize = 64;
const WORDS: usize = 1 << 10;

/// The ports met by a pass, of addresses of one family.
pub(crate) struct PortCount<A> {
    addresses: HashMap<A, Ports>,
}

struct Ports {
    blocks: u64,
    /// A bit for each port.
    used: Box<[u64; WORDS]>,
}

impl<A: KernelFamily> PortCount<A> {
    /// Nothing met yet of the addresses that have ports.
    pub(crate) fn new(addresses: &[AddressValue]) -> Self {
        let family = number(A::FAMILY);
        let with_ports = addresses
            .iter()
            .filter(|value| value.stamp != 0 && value.family == family && value.port_blocks != 0);
        let found = with_ports.filter_map(|value| {
            let address = A::of_ip(crate::family::ip_of_wide(value.address, family))?;
            Some((address, Ports { blocks: value.port_blocks, used: Box::new([0; WORDS]) }))
        });
        Self { addresses: found.collect() }
    }

    /// A live flow's packets come back to here.
    pub(crate) fn meet(&mut self, reply: &FlowKey<A>) {
        if let Some(ports) = self.addresses.get_mut(&reply.destination_be) {
            let port = usize::from(u16::from_be(reply.destination_port_be));
            ports.used[port / 64] |= 1 << (port % 64);
        }
    }

    pub(crate) fn usage(&self) -> Vec<PortUsage> {
        let mut usage: Vec<PortUsage> =
            self.addresses.iter().map(|(address, ports)| ports.usage(address.ip())).collect();
        usage.sort_by_key(|usage| usage.address);
        usage
    }
}

impl Ports {
    fn usage(&self, address: IpAddr) -> PortUsage {
        let words = self.used.chunks_exact(WORDS / BLOCKS);
        let blocks: Vec<BlockUsage> = (0u8..)
            .zip(words)
            .map(|(block, words)| BlockUsage {
                block,
                allocated: self.blocks & 1 << block != 0,
                ports_used: words.iter().map(|word| word.count_ones()).sum(),
            })
            .filter(|usage| usage.allocated || usage.ports_used > 0)
            .collect();
        PortUsage {
            address,
            ports_used: blocks.iter().map(|usage| usage.ports_used).sum(),
            ports_total: self.blocks.count_ones() * PORT_BLOCK,
            blocks,
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_abi::flow::FlowKey4;

    use super::*;

    #[test]
    fn a_port_counts_once_whoever_shares_it() {
        let address = AddressValue {
            stamp: 1,
            family: 4,
            address: [77, 0, 0, 0],
            port_blocks: 0b11 << 32,
            ..AddressValue::default()
        };
        let mut count = PortCount::<u32>::new(&[AddressValue::default(), address]);
        let reply = |destination_be, port: u16, source_be| FlowKey4 {
            source_be,
            destination_be,
            destination_port_be: port.to_be(),
            ..FlowKey4::default()
        };
        for key in [
            reply(77, 32768, 1),
            reply(77, 32768, 2),
            reply(77, 33791, 1),
            reply(77, 40000, 1),
            reply(78, 1, 1),
        ] {
            count.meet(&key);
        }
        let usage = count.usage();
        assert_eq!(usage.len(), 1);
        assert_eq!((usage[0].ports_used, usage[0].ports_total), (3, 2048));
        let found: Vec<_> =
            usage[0].blocks.iter().map(|block| (block.block, block.allocated, block.ports_used)).collect();
        assert_eq!(found, [(32, true, 2), (33, true, 0), (39, false, 1)]);
    }
}
