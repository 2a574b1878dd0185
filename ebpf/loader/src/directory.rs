//! What flow records refer to, looked up in the kernel once per call: groups by address, services by frontend.

use std::collections::HashMap;

use lockstep_abi::flow::{FlowKey4, NO_SYNC};
use lockstep_abi::map as names;
use lockstep_abi::service::{SYNC_NONE, ServiceKey};
use lockstep_model::ids::GroupId;

use crate::error::DataplaneError;
use crate::maps::Maps;

/// A frontend that exists here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frontend {
    pub(crate) address_index: u32,
    pub(crate) group: u64,
    pub(crate) service: u64,
    /// What flows of it carry in `FlowValue4::flags`.
    pub(crate) flow_flags: u32,
}

/// Lives for one call: what it remembers may change afterwards.
pub(crate) struct Directory<'a> {
    maps: &'a Maps,
    groups: HashMap<u32, Option<GroupId>>,
    frontends: HashMap<ServiceKey, Option<Frontend>>,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self { maps, groups: HashMap::new(), frontends: HashMap::new() }
    }

    pub(crate) fn group_of(&mut self, address_index: u32) -> Result<Option<GroupId>, DataplaneError> {
        if let Some(group) = self.groups.get(&address_index) {
            return Ok(*group);
        }
        let group = self.maps.group_of(address_index)?.map(GroupId);
        self.groups.insert(address_index, group);
        Ok(group)
    }

    /// The frontend that the client of `key` speaks to.
    pub(crate) fn frontend(&mut self, key: &FlowKey4) -> Result<Option<Frontend>, DataplaneError> {
        let service = ServiceKey {
            vip_be: key.destination_be,
            port_be: key.destination_port_be,
            protocol: key.protocol,
            pad: 0,
        };
        if let Some(frontend) = self.frontends.get(&service) {
            return Ok(*frontend);
        }
        let frontend = self.read(&service)?;
        self.frontends.insert(service, frontend);
        Ok(frontend)
    }

    fn read(&self, key: &ServiceKey) -> Result<Option<Frontend>, DataplaneError> {
        let maps = self.maps;
        let Some(index) =
            maps.address_index.get(&key.vip_be).map_err(DataplaneError::map(names::ADDRESS_INDEX))?
        else {
            return Ok(None);
        };
        let address = maps.addresses.get(&index).map_err(DataplaneError::map(names::ADDRESSES))?;
        let Some(address) = address.filter(|address| address.address_be == key.vip_be) else {
            return Ok(None);
        };
        let Some(current) = maps.services.get(key).map_err(DataplaneError::map(names::SERVICES))? else {
            return Ok(None);
        };
        let version =
            maps.versions.get(&current.version_slot).map_err(DataplaneError::map(names::VERSIONS))?;
        let unsynced = version.is_some_and(|version| version.sync == SYNC_NONE);
        Ok(Some(Frontend {
            address_index: index,
            group: address.group,
            service: current.service,
            flow_flags: if unsynced { NO_SYNC } else { 0 },
        }))
    }
}
