//! Where the kernel answers for a group's addresses, read back from the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use lockstep_abi::map as names;
use lockstep_model::ids::GroupId;

use crate::error::DataplaneError;
use crate::family::ip_of_wide;
use crate::maps::Maps;

/// An address of a group on an interface: what a gratuitous ARP or an unsolicited neighbour advertisement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// The interface.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The group's address.
    pub address: IpAddr,
}

/// Reads [`Answer`]s. Cheap to clone.
#[derive(Clone)]
pub struct AnswerTable {
    maps: Arc<Maps>,
}

impl AnswerTable {
    pub(crate) fn new(maps: Arc<Maps>) -> Self {
        Self { maps }
    }

    /// The group's, in no order.
    pub fn of(&self, group: GroupId) -> Result<Vec<Answer>, DataplaneError> {
        let mut answers = Vec::new();
        for (key, value) in self.maps.answers.entries().map_err(DataplaneError::map(names::ANSWERS))? {
            let address = self.maps.address(value.address_index)?;
            let owner = address.filter(|address| address.stamp == value.address_stamp);
            if owner.map(|owner| owner.group) != Some(group.get()) {
                continue;
            }
            let interface =
                self.maps.interfaces.get(&key.ifindex).map_err(DataplaneError::map(names::INTERFACES))?;
            let Some(interface) = interface else { continue };
            let address = ip_of_wide(key.address, key.family);
            answers.push(Answer { ifindex: key.ifindex, mac: interface.mac, address });
        }
        Ok(answers)
    }
}
