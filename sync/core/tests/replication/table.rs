//! A flow table as the kernel keeps it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lockstep_model::flow::{
    FlowChange, FlowKey, FlowKind, FlowOp, FlowRecord, FlowStamp, FlowState, FlowVersion, WriteOutcome,
};
use lockstep_model::ids::{EndpointId, Epoch, GroupId, ServiceId};
use lockstep_model::protocol::Protocol;

pub(crate) const GROUP: GroupId = GroupId(7);

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) record: FlowRecord,
    pub(crate) stamp: FlowStamp,
    pub(crate) mark: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: BTreeMap<FlowKey, Entry>,
}

pub(crate) fn key(number: u64) -> FlowKey {
    FlowKey {
        client: SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 1000 + number as u16),
        service: SocketAddr::new(Ipv4Addr::new(192, 0, 2, 10).into(), 443),
        protocol: Protocol::Tcp,
    }
}

fn record(key: FlowKey, version: FlowVersion, endpoint: u64) -> FlowRecord {
    FlowRecord {
        key,
        group: GROUP,
        service: ServiceId(9),
        endpoint: EndpointId(endpoint),
        endpoint_address: SocketAddr::new(Ipv4Addr::new(10, 0, 0, 10 + endpoint as u8).into(), 8443),
        source: None,
        kind: FlowKind::Nat,
        version,
        state: if version.n == 0 { FlowState::New } else { FlowState::Established },
        state_bits: version.n as u32,
        remaining: Duration::from_secs(10),
    }
}

impl Table {
    /// A packet makes the flow or changes its state.
    pub(crate) fn packet(&mut self, key: FlowKey, epoch: Epoch, clock: u64, endpoint: u64) -> FlowChange {
        let (version, endpoint) = match self.entries.get(&key) {
            Some(e) => (FlowVersion { n: e.stamp.version.n + 1, ..e.stamp.version }, e.record.endpoint.get()),
            None => (FlowVersion { birth: clock, n: 0 }, endpoint),
        };
        let record = record(key, version, endpoint);
        let mark = self.entries.get(&key).map_or(0, |e| e.mark);
        let stamp = FlowStamp { epoch, version };
        self.entries.insert(key, Entry { record: record.clone(), stamp, mark });
        FlowChange::Upsert(record)
    }

    /// The sweeper removes the flow.
    pub(crate) fn expire(&mut self, key: FlowKey) -> Option<FlowChange> {
        let entry = self.entries.remove(&key)?;
        Some(FlowChange::Remove { key, group: GROUP, version: entry.stamp.version })
    }

    pub(crate) fn write(&mut self, op: &FlowOp) -> WriteOutcome {
        let key = *op.change.key();
        let held = self.entries.get_mut(&key);
        if let Some(held) = &held
            && op.mark == held.mark
            && !op.supersedes(Some(held.stamp))
        {
            return WriteOutcome::Stale;
        }
        if !op.supersedes(held.as_ref().map(|held| held.stamp)) {
            if let Some(held) = held {
                held.mark = op.mark;
            }
            return WriteOutcome::Stale;
        }
        match &op.change {
            FlowChange::Upsert(record) => {
                let entry = Entry { record: record.clone(), stamp: op.stamp(), mark: op.mark };
                self.entries.insert(key, entry);
            }
            FlowChange::Remove { .. } => {
                self.entries.remove(&key);
            }
        }
        WriteOutcome::Applied
    }

    pub(crate) fn sweep(&mut self, shard: u8, mark: u32, epoch: Epoch) -> u64 {
        let before = self.entries.len();
        let stays =
            |key: &FlowKey, e: &Entry| key.shard() != shard || e.mark == mark || e.stamp.epoch > epoch;
        self.entries.retain(|key, entry| stays(key, entry));
        (before - self.entries.len()) as u64
    }

    /// At most `max` records behind `cursor`, and whether there are no more.
    pub(crate) fn page(&self, cursor: Option<FlowKey>, max: usize) -> (Vec<FlowRecord>, bool) {
        let rest = self.entries.iter().filter(|(key, _)| cursor.is_none_or(|cursor| **key > cursor));
        let page: Vec<_> = rest.clone().take(max).map(|(_, e)| e.record.clone()).collect();
        let last = rest.count() <= max;
        (page, last)
    }

    /// What the two tables have to agree on, in short form.
    pub(crate) fn content(&self) -> BTreeMap<u16, (u64, u64, u64)> {
        let short = |r: &FlowRecord| (r.version.birth, r.version.n, r.endpoint.get());
        self.entries.iter().map(|(key, entry)| (key.client.port(), short(&entry.record))).collect()
    }
}
