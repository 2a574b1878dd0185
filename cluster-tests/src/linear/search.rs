//! The search: Wing and Gong (Testing and Verifying Concurrent Objects, JPDC 1993), with the memory of what was tried
//! that Lowe added (Testing for Linearizability, 2017), as Porcupine does it.
//!
//! An operation may come next if it began before any that has not come yet was answered. One whose outcome is unknown
//! is never answered: it may come at any time, or not at all.

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

/// A point on the way: what may come next, and which of it is tried.
struct Point {
    state: State,
    next: Vec<usize>,
    tried: usize,
}

impl Search {
    fn run(mut self, initial: State) -> Verdict {
        let mut best = (usize::MAX, String::new());
        let mut way = vec![self.point(initial)];
        while self.left > 0 {
            let Some(point) = way.last_mut() else { return Verdict::Violation(best.1) };
            let Some(&index) = point.next.get(point.tried) else {
                if self.left < best.0 {
                    best = (self.left, self.stuck(way.last().expect("it is there")));
                }
                way.pop();
                if let Some(index) = way.last().map(|point| point.next[point.tried - 1]) {
                    self.take_back(index);
                }
                continue;
            };
            point.tried += 1;
            let Some(state) = point.state.after(&self.history[index]) else { continue };
            self.place(index);
            if self.seen.len() >= MAX_POINTS {
                return Verdict::Undecided;
            }
            if self.seen.insert((self.done.clone(), state.clone())) {
                way.push(self.point(state));
            } else {
                self.take_back(index);
            }
        }
        Verdict::Linearizable
    }

    fn point(&self, state: State) -> Point {
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
        next.sort_by_key(|index| rank(&self.history[*index]));
        Point { state, next, tried: 0 }
    }

    fn stuck(&self, point: &Point) -> String {
        let answered: Vec<&Operation> = point
            .next
            .iter()
            .map(|index| &self.history[*index])
            .filter(|operation| operation.completed.is_some())
            .collect();
        format!(
            "{} operations are left, and after {:?} none of {answered:?} can come",
            self.left, point.state
        )
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
