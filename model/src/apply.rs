//! `apply`: being written.
use crate::command::Command;
use crate::ids::LogIndex;
use crate::state::{Applied, State};

pub(crate) fn apply(state: &mut State, _index: LogIndex, _command: &Command) -> Applied {
    Applied::Unchanged { revision: state.revision, lines: Vec::new() }
}
