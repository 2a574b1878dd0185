//! What CI checks about the tree itself, beside what cargo can check. Each check answers what it looked at, or
//! everything that is wrong at once.

pub(crate) mod dependencies;
pub(crate) mod documents;
mod invariants;
pub(crate) mod patches;
