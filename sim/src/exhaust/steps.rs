//! How a state was reached, written down only when somebody asks.

use std::fmt;
use std::rc::Rc;

use lockstep_model::ids::NodeId;

use super::cluster::Letter;

/// The last step, and those before it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) before: Option<Rc<Step>>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    /// What became of a letter.
    Letter(&'static str, Letter),
    /// A node got an entry, counted from 1.
    Appends(NodeId, usize),
    /// A node applied an entry.
    Applies(NodeId, usize),
    /// A node's daemon restarted.
    Restarts(NodeId),
    /// Time passed until this round.
    Round(u8),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Letter(fate, letter) => {
                write!(f, "{fate}: {} -> {} {:?}", letter.from.node, letter.to, letter.message)
            }
            What::Appends(node, entry) => write!(f, "node {node} appends entry {entry}"),
            What::Applies(node, entry) => write!(f, "node {node} applies entry {entry}"),
            What::Restarts(node) => write!(f, "node {node} restarts"),
            What::Round(round) => write!(f, "round {round}"),
        }
    }
}
