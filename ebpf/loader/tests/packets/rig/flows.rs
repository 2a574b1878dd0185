//! Flows and events as the kernel keeps them, with addresses of either family in four words.

use aya::maps::{Map, MapData, RingBuf};
use lockstep_abi::age::AgeEntry;
use lockstep_abi::event::{FlowEvent, FlowEvent4, FlowEvent6};
use lockstep_abi::flow::{self, FlowKey4, FlowKey6, FlowValue, FlowValue4, FlowValue6};
use lockstep_abi::map;

use crate::case::{Family, wide};
use crate::frame::Packet;
use crate::rig::Rig;

pub(crate) type FlowKey = FlowKey6;
pub(crate) type Flow = FlowValue6;
pub(crate) type Event = FlowEvent6;
pub(crate) type Aged = AgeEntry<[u32; 4]>;

/// The flow's key that a packet has.
pub(crate) fn key(packet: &Packet) -> FlowKey {
    FlowKey {
        source_be: wide(packet.source.0),
        destination_be: wide(packet.destination.0),
        source_port_be: packet.source.1.to_be(),
        destination_port_be: packet.destination.1.to_be(),
        protocol: packet.protocol,
        pad: [0; 3],
    }
}

fn key_with<A, B>(key: &flow::FlowKey<A>, address: impl Fn(&A) -> B) -> flow::FlowKey<B> {
    flow::FlowKey {
        source_be: address(&key.source_be),
        destination_be: address(&key.destination_be),
        source_port_be: key.source_port_be,
        destination_port_be: key.destination_port_be,
        protocol: key.protocol,
        pad: key.pad,
    }
}

fn flow_with<A, B>(flow: &FlowValue<A>, address: impl Fn(&A) -> B) -> FlowValue<B> {
    FlowValue {
        generation: flow.generation,
        path: flow.path,
        key: key_with(&flow.key, &address),
        twin: key_with(&flow.twin, &address),
        last_seen_ns: flow.last_seen_ns,
        hop: flow.hop,
        address_delta: flow.address_delta,
        port_delta: flow.port_delta,
        address_index: flow.address_index,
        address_stamp: flow.address_stamp,
        generation_end: flow.generation_end,
        state: flow.state,
        birth_ns: flow.birth_ns,
        epoch: flow.epoch,
        service: flow.service,
        endpoint: flow.endpoint,
        flags: flow.flags,
        mark: flow.mark,
        service_slot: flow.service_slot,
        target: flow.target,
        reserved: flow.reserved,
    }
}

fn widen(address: &u32) -> [u32; 4] {
    [*address, 0, 0, 0]
}

pub(crate) fn narrow(address: &[u32; 4]) -> u32 {
    address[0]
}

/// The key as it is in the map of IPv4.
pub(crate) fn narrow_key(key: &FlowKey) -> FlowKey4 {
    key_with(key, narrow)
}

impl Rig {
    pub(crate) fn flow_at(&self, key: &FlowKey) -> Option<Flow> {
        match self.net {
            Family::V4 => {
                let found = self.table::<FlowKey4, FlowValue4>(map::FLOWS4).get(&narrow_key(key));
                found.map(|flow| flow_with(&flow, widen))
            }
            Family::V6 => self.table(map::FLOWS6).get(key),
        }
    }

    pub(crate) fn flow(&self, packet: &Packet) -> Option<Flow> {
        self.flow_at(&key(packet))
    }

    pub(crate) fn put_flow(&self, key: &FlowKey, flow: &Flow) {
        match self.net {
            Family::V4 => self.table(map::FLOWS4).put(&narrow_key(key), &flow_with(flow, narrow)),
            Family::V6 => self.table(map::FLOWS6).put(key, flow),
        }
    }

    /// Writes many entries by one call.
    pub(crate) fn put_flows(&self, flows: &[Flow]) {
        let keys: Vec<FlowKey> = flows.iter().map(|flow| flow.key).collect();
        match self.net {
            Family::V4 => {
                let keys: Vec<FlowKey4> = keys.iter().map(narrow_key).collect();
                let flows: Vec<FlowValue4> = flows.iter().map(|flow| flow_with(flow, narrow)).collect();
                self.table(map::FLOWS4).put_all(&keys, &flows);
            }
            Family::V6 => self.table(map::FLOWS6).put_all(&keys, flows),
        }
    }

    /// Replaces an entry by a changed one.
    pub(crate) fn change_flow(&self, key: &FlowKey, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.flow_at(key).expect("the flow to be changed");
        change(&mut flow);
        self.put_flow(key, &flow);
    }

    pub(crate) fn remove_flow(&self, key: &FlowKey) {
        self.try_remove_flow(key).unwrap();
    }

    pub(crate) fn try_remove_flow(&self, key: &FlowKey) -> std::io::Result<()> {
        match self.net {
            Family::V4 => self.table::<FlowKey4, FlowValue4>(map::FLOWS4).try_remove(&narrow_key(key)),
            Family::V6 => self.table::<FlowKey6, FlowValue6>(map::FLOWS6).try_remove(key),
        }
    }

    pub(crate) fn flows(&self) -> Vec<(FlowKey, Flow)> {
        match self.net {
            Family::V4 => {
                let entries = self.table::<FlowKey4, FlowValue4>(map::FLOWS4).entries();
                let wide = entries.iter().map(|(key, flow)| (key_with(key, widen), flow_with(flow, widen)));
                wide.collect()
            }
            Family::V6 => self.table(map::FLOWS6).entries(),
        }
    }

    pub(crate) fn flow_entries(&self) -> usize {
        self.flows().len()
    }

    fn ring(&self) -> RingBuf<MapData> {
        let fd = self.loaded().tables.fd(map::EVENTS).try_clone_to_owned().unwrap();
        RingBuf::try_from(Map::RingBuf(MapData::from_fd(fd).unwrap())).unwrap()
    }

    /// Takes what was reported since.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut ring = self.ring();
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            events.push(event(self.net, &item));
        }
        events
    }

    /// Forgets what was reported to whoever had the instance before.
    pub(super) fn discard_events(&self) {
        let mut ring = self.ring();
        while ring.next().is_some() {}
    }

    /// Runs the sweeper's program over keys.
    pub(crate) fn age(&self, keys: &[FlowKey], flags: u32) -> Vec<Aged> {
        let entries: Vec<Aged> =
            keys.iter().map(|key| Aged { key: *key, flags, ..Aged::default() }).collect();
        match self.net {
            Family::V4 => {
                let narrowed: Vec<_> = entries.iter().map(|entry| entry_with(entry, narrow)).collect();
                let aged = self.run_age(map::PROGRAM_AGE4, &narrowed);
                aged.iter().map(|entry| entry_with(entry, widen)).collect()
            }
            Family::V6 => self.run_age(map::PROGRAM_AGE6, &entries),
        }
    }

    fn run_age<A: lockstep_abi::KernelAddress>(
        &self,
        program: &str,
        entries: &[AgeEntry<A>],
    ) -> Vec<AgeEntry<A>> {
        use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
        use lockstep_abi::age::AGE_HEADER;
        let mut input = vec![0u8; AGE_HEADER];
        for entry in entries {
            let bytes = std::ptr::from_ref(entry).cast::<u8>();
            // SAFETY: integers without padding.
            input.extend(unsafe { std::slice::from_raw_parts(bytes, size_of::<AgeEntry<A>>()) });
        }
        let mut output = vec![0; input.len()];
        let options = TestRunOptions {
            data_in: Some(&input),
            data_out: Some(&mut output),
            ..TestRunOptions::default()
        };
        let program: &SchedClassifier = self.loaded().ebpf.program(program).unwrap().try_into().unwrap();
        let result = program.test_run(options).unwrap();
        assert_eq!(result.return_value as usize, entries.len(), "every entry was considered");
        output[AGE_HEADER..]
            .chunks_exact(size_of::<AgeEntry<A>>())
            // SAFETY: as long as an AgeEntry, of which any bytes are one.
            .map(|bytes| unsafe { bytes.as_ptr().cast::<AgeEntry<A>>().read_unaligned() })
            .collect()
    }
}

fn entry_with<A, B>(entry: &AgeEntry<A>, address: impl Fn(&A) -> B) -> AgeEntry<B> {
    AgeEntry {
        key: key_with(&entry.key, address),
        flags: entry.flags,
        outcome: entry.outcome,
        n: entry.n,
        pad: entry.pad,
        birth_ns: entry.birth_ns,
    }
}

fn event(family: Family, bytes: &[u8]) -> Event {
    match family {
        Family::V4 => {
            assert_eq!(bytes.len(), size_of::<FlowEvent4>());
            // SAFETY: as long as an event, of which any bytes are one.
            let event = unsafe { bytes.as_ptr().cast::<FlowEvent4>().read_unaligned() };
            FlowEvent {
                kind: event.kind,
                shard: event.shard,
                key: key_with(&event.key, widen),
                reply_key: key_with(&event.reply_key, widen),
                state_bits: event.state_bits,
                n: event.n,
                birth_ns: event.birth_ns,
                epoch: event.epoch,
                group: event.group,
                service: event.service,
                endpoint: event.endpoint,
                now_ns: event.now_ns,
                flags: event.flags,
                pad: event.pad,
            }
        }
        Family::V6 => {
            assert_eq!(bytes.len(), size_of::<FlowEvent6>());
            // SAFETY: the same.
            unsafe { bytes.as_ptr().cast::<FlowEvent6>().read_unaligned() }
        }
    }
}
