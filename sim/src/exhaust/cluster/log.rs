//! The log that the explored cluster comes to agree on, and how far each node has it.

use lockstep_model::ids::{Epoch, LogIndex, NodeId};
use lockstep_model::limits::MAX_LEASE;
use lockstep_model::state::Assignment;
use lockstep_ownership::log::{Edit, LogEvent};
use lockstep_ownership::membership::{LogId, Membership};
use lockstep_ownership::time::Instant;
use lockstep_ownership::view::{GroupView, View};

use super::super::scenario::{Applies, Entry, GROUPS, Scenario};
use super::super::steps::What;
use super::{ADDRESS, Cluster, LEASE, MOVE_SLACK_NS};

impl<'a> Cluster<'a> {
    fn agreed(&self) -> usize {
        let all = self.scenario.settled.len() + self.scenario.agreed.len();
        // An entry is agreed on when a majority of the newest voters before or at it have it.
        (self.scenario.settled.len()..=all)
            .rfind(|len| {
                let members = self.members(*len);
                members.is_quorum(|id| self.nodes[&id].has >= *len)
            })
            .unwrap_or(self.scenario.settled.len())
    }

    fn entry(&self, at: usize) -> Option<&'a Entry> {
        let scenario: &'a Scenario = self.scenario;
        scenario.settled.iter().chain(&scenario.agreed).nth(at)
    }

    fn members(&self, len: usize) -> Membership {
        let newest = (0..len).rev().find_map(|at| match self.entry(at)? {
            Entry::Members(configs) => Some(Membership { id: log_id(2, at), configs: configs.clone() }),
            _ => None,
        });
        newest.expect("every log begins with a membership")
    }

    /// A node gets the next entry from whoever has it; the first one comes from node 2, which leads.
    pub(super) fn append(&self, id: NodeId) -> Option<Self> {
        let node = &self.nodes[&id];
        let most = self.nodes.values().map(|n| n.has).max().unwrap_or(0);
        self.entry(node.has)?;
        if node.has == most && (id.get() != 2 || self.agreed() < most) {
            return None;
        }
        let mut state = self.clone();
        state.log_steps += 1;
        state.note(What::Appends(id, node.has + 1));
        let at = node.has;
        let event = state.event(at);
        state.with(id, |node, now| {
            if node.rival {
                node.rival = false;
                node.log.handle_event(now, LogEvent::Truncated { after: LogIndex(at as u64) });
            }
            node.has += 1;
            if let Some(event) = event {
                node.log.handle_event(now, event);
            }
            node.owner.handle_log(now, &node.log);
        });
        if self.scenario.applies == Applies::AtOnce {
            while let Some(next) = state.ids().into_iter().find_map(|id| state.apply(id)) {
                state = Self { log_steps: state.log_steps, ..next };
            }
        }
        Some(state)
    }

    pub(super) fn apply(&self, id: NodeId) -> Option<Self> {
        let node = &self.nodes[&id];
        let lags = self.scenario.lagging.contains(&id);
        if lags || node.applied >= node.has.min(self.agreed()) {
            return None;
        }
        let mut state = self.clone();
        state.log_steps += 1;
        state.note(What::Applies(id, node.applied + 1));
        let (view, moved) = (state.view(node.applied + 1), state.entry(node.applied));
        let moved = if let Some(Entry::Move { to, .. }) = moved { Some(*to) } else { None };
        let now_ns = state.now_ns;
        state.with(id, |node, now| {
            node.applied += 1;
            if let Some(to) = moved {
                let from = node.clock.real(now + MAX_LEASE) + MOVE_SLACK_NS;
                node.address = (to, from.max(now_ns));
            }
            node.log.handle_view(view);
            node.voter.handle_view(now, &node.log);
            node.owner.handle_log(now, &node.log);
        });
        Some(state)
    }

    /// Tells a node that starts what its log holds.
    pub(super) fn read_log(&mut self, id: NodeId, now: Instant) {
        let settled = self.scenario.settled.len();
        let known = self.nodes[&id].has.max(settled);
        let applied = self.nodes[&id].applied.max(settled);
        let mut events: Vec<LogEvent> = (0..known).filter_map(|at| self.event(at)).collect();
        if self.nodes[&id].rival
            && let Some((Entry::Assign { group, replaces, node }, _)) = &self.scenario.rival
        {
            let index = LogIndex(settled as u64 + 1);
            events.push(LogEvent::Assign { index, group: *group, replaces: Epoch(*replaces), node: *node });
        }
        let view = self.view(applied);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let node = node.change();
        (node.has, node.applied) = (known, applied);
        for event in events {
            node.log.handle_event(now, event);
        }
        node.log.handle_view(view);
    }

    fn event(&self, at: usize) -> Option<LogEvent> {
        let index = LogIndex(at as u64 + 1);
        match self.entry(at)? {
            Entry::Assign { group, replaces, node } => {
                let replaces = Epoch(*replaces);
                Some(LogEvent::Assign { index, group: *group, replaces, node: *node })
            }
            Entry::Members(configs) => {
                Some(LogEvent::Membership(Membership { id: log_id(2, at), configs: configs.clone() }))
            }
            Entry::Move { to, .. } => {
                let edit = Edit { gives: [(ADDRESS, to.to_string())].into(), ..Edit::default() };
                Some(LogEvent::Edit { index, edit })
            }
        }
    }

    fn view(&self, applied: usize) -> View {
        let mut view = View { applied: LogIndex(applied as u64), lease: LEASE, ..View::default() };
        view.groups = GROUPS.map(|g| (g, GroupView { name: g.to_string(), ..GroupView::default() })).into();
        view.holders.insert(ADDRESS, GROUPS[0]);
        for at in 0..applied {
            let epoch = Epoch(at as u64 + 1);
            match self.entry(at) {
                Some(Entry::Assign { group, replaces, node }) => {
                    let group = view.groups.entry(*group).or_default();
                    if group.assignment.map_or(Epoch(0), |a| a.epoch) == Epoch(*replaces) {
                        group.assignment = Some(Assignment { epoch, node: *node });
                    }
                }
                Some(Entry::Move { from, to }) => {
                    view.holders.insert(ADDRESS, *to);
                    let group = view.groups.entry(*from).or_default();
                    if let Some(assignment) = &mut group.assignment {
                        assignment.epoch = epoch;
                    }
                }
                Some(Entry::Members(_)) | None => {}
            }
        }
        view
    }
}

fn log_id(term: u64, at: usize) -> LogId {
    LogId { term, leader: NodeId(2), index: LogIndex(at as u64 + 1) }
}
