//! Where the kernel answers for a group's addresses, read back from the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use lockstep_abi::address::{AnswerKey, AnswerValue};
use lockstep_abi::map as names;
use lockstep_model::ids::GroupId;

use crate::error::DataplaneError;
use crate::family::{ip_of_wide, wide};
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

    /// The group's, in no order. Without those that it may not serve yet: the kernel is silent about them.
    pub fn of(&self, group: GroupId) -> Result<Vec<Answer>, DataplaneError> {
        let entries = self.maps.answers.entries().map_err(DataplaneError::map(names::ANSWERS))?;
        let answers = entries.into_iter().map(|(key, value)| self.answer(group, key, value));
        answers.filter_map(Result::transpose).collect()
    }

    /// Whether the kernel has this one of the group's now.
    pub fn has(&self, group: GroupId, answer: &Answer) -> Result<bool, DataplaneError> {
        let Answer { ifindex, address, .. } = *answer;
        let family = if address.is_ipv4() { 4 } else { 6 };
        let key = AnswerKey { ifindex, family, address: wide(address) };
        let Some(value) = self.maps.answers.get(&key).map_err(DataplaneError::map(names::ANSWERS))? else {
            return Ok(false);
        };
        Ok(self.answer(group, key, value)?.as_ref() == Some(answer))
    }

    /// What an element says, if it is the group's.
    fn answer(
        &self,
        group: GroupId,
        key: AnswerKey,
        value: AnswerValue,
    ) -> Result<Option<Answer>, DataplaneError> {
        let address = self.maps.address(value.address_index)?;
        let owner = address.filter(|address| address.stamp == value.address_stamp);
        let Some(owner) = owner.filter(|owner| owner.group == group.get()) else { return Ok(None) };
        if self.maps.leases.slot_of(group) != Some(owner.lease_slot) {
            return Ok(None);
        }
        let interface =
            self.maps.interfaces.get(&key.ifindex).map_err(DataplaneError::map(names::INTERFACES))?;
        let address = ip_of_wide(key.address, key.family);
        Ok(interface.map(|interface| Answer { ifindex: key.ifindex, mac: interface.mac, address }))
    }
}
