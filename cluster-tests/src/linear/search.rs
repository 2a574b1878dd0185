//! The search: Wing and Gong (Testing and Verifying Concurrent Objects, JPDC 1993), with the memory of what was tried
//! that Lowe added (Testing for Linearizability, 2017), as Porcupine does it.
//!
//! An operation may come next if it began before any that has not come yet was answered. One whose outcome is unknown
//! is never answered: it may come at any time, or not at all.
//!
//! Two things are not tried, since they lead nowhere else. What may come next and changes nothing comes at once: were it to
//! come later, everything between would do as well after it. And an unknown write comes only right before an operation
//! that cannot come without it: before any other it may as well come later, or never.

use std::collections::HashSet;

use super::history::{Call, Operation, Outcome, State, pin};
use crate::clock::Nanos;

/// Points of the search, at most: each is kept. A history that is in order takes one for each operation.
const MAX_POINTS: usize = 300_000;

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none. What could not come next where the search got furthest.
    Violation(String),
    /// Not known: [`MAX_POINTS`] were not enough.
    Undecided,
}

/// Looks for an order that begins with `initial`.
pub fn check(initial: State, mut history: Vec<Operation>) -> Verdict {
    pin(&mut history);
    history.sort_by_key(|operation| operation.invoked);
    Search {
        done: vec![0; history.len().div_ceil(64)],
        left: history.iter().filter(|operation| operation.completed.is_some()).count(),
        history,
        seen: HashSet::new(),
    }
    .run(initial)
}

struct Search {
    /// By the time of their beginning.
    history: Vec<Operation>,
    /// One bit for each operation that has its place.
    done: Vec<u64>,
    /// Answered operations without a place.
    left: usize,
    seen: HashSet<(Vec<u64>, State)>,
}

/// A point on the way: what may come next, and how much of it was tried.
struct Point {
    state: State,
    steps: Vec<Step>,
    tried: usize,
}

/// An operation, or an unknown write and the operation that needs it; and the state after.
struct Step {
    unknown: Option<usize>,
    operation: usize,
    state: State,
}

impl Step {
    fn operations(&self) -> impl Iterator<Item = usize> {
        self.unknown.into_iter().chain([self.operation])
    }
}

impl Search {
    fn run(mut self, initial: State) -> Verdict {
        let mut best = (usize::MAX, String::new());
        let mut way = vec![self.point(initial)];
        while self.left > 0 {
            let Some(point) = way.last_mut() else { return Verdict::Violation(best.1) };
            let Some(step) = point.steps.get(point.tried) else {
                if self.left < best.0 {
                    best = (self.left, self.stuck(&way.pop().expect("it is there").state));
                } else {
                    way.pop();
                }
                if let Some(point) = way.last() {
                    point.steps[point.tried - 1].operations().for_each(|index| self.take_back(index));
                }
                continue;
            };
            point.tried += 1;
            step.operations().for_each(|index| self.place(index));
            if self.seen.len() >= MAX_POINTS {
                return Verdict::Undecided;
            }
            if self.seen.insert((self.done.clone(), step.state.clone())) {
                let state = step.state.clone();
                way.push(self.point(state));
            } else {
                step.operations().for_each(|index| self.take_back(index));
            }
        }
        Verdict::Linearizable
    }

    fn point(&self, state: State) -> Point {
        let mut next = self.next();
        next.sort_by_key(|index| rank(&self.history[*index]));
        let unknown: Vec<usize> = next.iter().copied().filter(|index| self.is_unknown(*index)).collect();
        let (mut steps, mut helped) = (Vec::new(), Vec::new());
        for operation in next.into_iter().filter(|index| !self.is_unknown(*index)) {
            match state.after(&self.history[operation]) {
                Some(after) if after == state => {
                    steps = vec![Step { unknown: None, operation, state: after }];
                    return Point { state, steps, tried: 0 };
                }
                Some(state) => steps.push(Step { unknown: None, operation, state }),
                None => helped.extend(unknown.iter().filter_map(|helper| {
                    let state = state.after(&self.history[*helper])?.after(&self.history[operation])?;
                    Some(Step { unknown: Some(*helper), operation, state })
                })),
            }
        }
        steps.append(&mut helped);
        Point { state, steps, tried: 0 }
    }

    /// Operations without a place that began before any of them was answered.
    fn next(&self) -> Vec<usize> {
        let mut answered = Nanos::MAX;
        let mut next = Vec::new();
        for (index, operation) in self.history.iter().enumerate() {
            if operation.invoked > answered {
                break;
            }
            if !self.is_done(index) {
                answered = answered.min(operation.completed.unwrap_or(Nanos::MAX));
                next.push(index);
            }
        }
        next.retain(|index| self.history[*index].invoked <= answered);
        next
    }

    fn stuck(&self, state: &State) -> String {
        let next = self.next().into_iter().map(|index| &self.history[index]);
        let answered: Vec<&Operation> = next.filter(|operation| operation.completed.is_some()).collect();
        format!("{} operations are left, and after {state:?} none of {answered:?} can come", self.left)
    }

    fn is_unknown(&self, index: usize) -> bool {
        matches!(self.history[index].call, Call::Write { outcome: Outcome::Unknown, .. })
    }

    fn is_done(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    fn place(&mut self, index: usize) {
        self.done[index / 64] |= 1 << (index % 64);
        self.left -= usize::from(self.history[index].completed.is_some());
    }

    fn take_back(&mut self, index: usize) {
        self.done[index / 64] &= !(1 << (index % 64));
        self.left += usize::from(self.history[index].completed.is_some());
    }
}

/// In which order to try: by revision, a write before what was read of it. It changes how long the search takes, and
/// not what it finds.
fn rank(operation: &Operation) -> (u64, u8) {
    match operation.call {
        Call::Write { outcome: Outcome::Conflict, .. } => (0, 0),
        Call::Write { outcome: Outcome::Done(made), .. } => (made, 1),
        Call::Read { revision, .. } => (revision, 2),
        Call::Write { outcome: Outcome::Unknown, .. } => (u64::MAX, 3),
    }
}

#[cfg(test)]
mod tests;
