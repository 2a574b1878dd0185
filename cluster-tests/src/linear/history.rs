//! What concurrent clients asked of a few named objects, when, and what they were told.
//!
//! The intent is a register for each object, and one revision that every change moves up; a write may demand a
//! revision, and is refused if it is another. All objects are judged together, since the revision is common to them.

use crate::clock::Nanos;

/// One call of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// When it began.
    pub invoked: Nanos,
    /// When it was answered; none if the client was not told the outcome: it may have happened, happen later, or never.
    pub completed: Option<Nanos>,
    /// Which object.
    pub object: usize,
    /// What, and the answer.
    pub call: Call,
}

/// What was called, with what came of it. Reads that failed and writes that were refused for certain are no part of a
/// history: they say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A read.
    Read {
        /// What it saw.
        value: u64,
        /// At which revision of the intent.
        revision: u64,
        /// When the object was changed last.
        changed: u64,
    },
    /// A write. No value is written twice.
    Write {
        /// What was to be written.
        value: u64,
        /// Only at this revision.
        expected: Option<u64>,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, and made this revision.
    Done(u64),
    /// The intent was at another revision than expected.
    Conflict,
    /// Not known.
    Unknown,
}

/// The state of all objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    revision: Revision,
    values: Vec<u64>,
}

/// After a write of which no revision is known, only what it is above is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Revision {
    Is(u64),
    Above(u64),
}

impl Revision {
    fn may_be(self, seen: u64) -> bool {
        match self {
            Revision::Is(at) => at == seen,
            Revision::Above(at) => seen > at,
        }
    }

    fn floor(self) -> u64 {
        match self {
            Revision::Is(at) | Revision::Above(at) => at,
        }
    }
}

impl State {
    /// What the objects held at a revision.
    pub fn new(revision: u64, values: Vec<u64>) -> Self {
        State { revision: Revision::Is(revision), values }
    }

    /// The state after an operation, if the answer is one that this state gives.
    pub fn after(&self, operation: &Operation) -> Option<State> {
        let mut next = self.clone();
        match operation.call {
            Call::Read { value, revision, .. } => {
                if self.values[operation.object] != value || !self.revision.may_be(revision) {
                    return None;
                }
                next.revision = Revision::Is(revision);
            }
            Call::Write { expected: Some(expected), outcome: Outcome::Conflict, .. } => {
                return (self.revision != Revision::Is(expected)).then_some(next);
            }
            Call::Write { outcome: Outcome::Conflict, .. } => return None,
            Call::Write { value, expected, outcome } => {
                if expected.is_some_and(|expected| !self.revision.may_be(expected)) {
                    return None;
                }
                // An expected revision says what the state's was.
                let before = expected.unwrap_or(self.revision.floor());
                next.revision = match outcome {
                    Outcome::Done(made) if made > before => Revision::Is(made),
                    Outcome::Done(_) => return None,
                    _ => Revision::Above(before),
                };
                next.values[operation.object] = value;
            }
        }
        Some(next)
    }
}

/// Says which revision a write of unknown outcome made, where somebody read what it wrote: the search has less to try,
/// and nothing is explained any other way.
pub fn pin(history: &mut [Operation]) {
    let read: std::collections::HashMap<(usize, u64), u64> = history
        .iter()
        .filter_map(|operation| match operation.call {
            Call::Read { value, changed, .. } => Some(((operation.object, value), changed)),
            Call::Write { .. } => None,
        })
        .collect();
    for operation in history {
        if let Call::Write { value, outcome: outcome @ Outcome::Unknown, .. } = &mut operation.call
            && let Some(made) = read.get(&(operation.object, *value))
        {
            *outcome = Outcome::Done(*made);
        }
    }
}
