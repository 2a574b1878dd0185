//! What must stay although the image has it no more, because live flows need it.

use std::collections::{HashMap, HashSet};

use lockstep_abi::flow::FlowValue;
use lockstep_abi::service::GuardKey;

use super::guards::Guards;
use super::{Apply, Surroundings};
use crate::error::DataplaneError;
use crate::family::{KernelFamily, V4, V6};
use crate::flows::FlowTable;

impl Apply<'_> {
    /// A removed endpoint is guarded for as long as it has live flows: one of them may be missing here, and its
    /// replies must not leak. For as long it keeps its index. Answers the endpoints whose index can be freed. Walks
    /// the flows only while there is a removed endpoint.
    pub(super) fn keep_what_flows_need(
        &self,
        flows: &FlowTable,
        v4: &mut Surroundings<V4>,
        v6: &mut Surroundings<V6>,
    ) -> Result<Vec<u64>, DataplaneError> {
        let wanted: HashSet<u64> = self
            .image
            .services
            .iter()
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| endpoint.id.get())
            .collect();
        let known = self.maps.targets.known();
        let mut idle: HashSet<u64> =
            known.endpoints().filter(|endpoint| !wanted.contains(endpoint)).collect();
        let removed4 = self.removed_guards(v4)?;
        let removed6 = self.removed_guards(v6)?;
        if !idle.is_empty() || !removed4.is_empty() {
            keep(flows, &removed4, v4, &mut idle)?;
        }
        if !idle.is_empty() || !removed6.is_empty() {
            keep(flows, &removed6, v6, &mut idle)?;
        }
        Ok(idle.into_iter().collect())
    }

    fn removed_guards<A: KernelFamily>(&self, wanted: &Surroundings<A>) -> Result<Guards<A>, DataplaneError> {
        let entries = A::maps(self.maps).guards.hash_entries();
        let entries = entries.map_err(DataplaneError::map(A::NAMES.guards))?;
        Ok(entries.into_iter().filter(|(key, _)| !wanted.guards.contains_key(key)).collect())
    }
}

fn keep<A: KernelFamily>(
    flows: &FlowTable,
    removed: &Guards<A>,
    wanted: &mut Surroundings<A>,
    idle: &mut HashSet<u64>,
) -> Result<(), DataplaneError> {
    let mut kept: HashMap<_, _> = HashMap::new();
    flows.each::<A>(&mut |flow: &FlowValue<A>| {
        idle.remove(&flow.endpoint);
        if flow.endpoint == 0 {
            return Ok(());
        }
        let answer = &flow.twin;
        let full = GuardKey {
            address_be: answer.source_be,
            port_be: answer.source_port_be,
            protocol: answer.protocol,
            pad: 0,
        };
        for key in [full, GuardKey { port_be: 0, ..full }, GuardKey { port_be: 0, protocol: 0, ..full }] {
            if let Some(guard) = removed.get(&key) {
                kept.insert(key, *guard);
            }
        }
        Ok(())
    })?;
    wanted.guards.extend(kept);
    Ok(())
}
