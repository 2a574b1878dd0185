//! What a node knows of its own ability to serve, told by the shell.

use std::time::Duration;

use lockstep_model::ids::GroupId;

/// A node's own state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalStatus {
    /// Shutting down, or asked to give its groups away.
    pub draining: bool,
    /// By group; a group that is not named is one the node cannot serve. A witness names none.
    pub candidacies: Vec<Candidacy>,
}

/// How a node could serve a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidacy {
    /// The group.
    pub group: GroupId,
    /// `Err`: it could not.
    pub fitness: Result<(), Unfit>,
    /// How well it knows the group's flows.
    pub flows: Flows,
}

/// Why a node cannot serve a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// It may not acquire anything for `MAX_LEASE` after its start or after a change of membership.
    Starting,
    /// No interface has a connected prefix that contains the group's addresses.
    NoInterface,
    /// An interface that the group needs has lost its carrier.
    CarrierLost,
    /// A program is not attached.
    ProgramDetached,
    /// Its kernel does not hold the intent yet.
    IntentNotApplied,
    /// It has fallen behind the cluster's log for too long.
    IntentStale,
    /// It alone does not reach most of the group's endpoints.
    EndpointsNotReached,
    /// Its store has stopped for want of space: it does not hear of changes.
    DiskFull,
}

impl Unfit {
    /// All, for metrics.
    pub const ALL: [Unfit; 8] = [
        Unfit::Starting,
        Unfit::NoInterface,
        Unfit::CarrierLost,
        Unfit::ProgramDetached,
        Unfit::IntentNotApplied,
        Unfit::IntentStale,
        Unfit::EndpointsNotReached,
        Unfit::DiskFull,
    ];

    /// Metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Unfit::Starting => "starting",
            Unfit::NoInterface => "no_interface",
            Unfit::CarrierLost => "carrier_lost",
            Unfit::ProgramDetached => "program_detached",
            Unfit::IntentNotApplied => "intent_not_applied",
            Unfit::IntentStale => "intent_stale",
            Unfit::EndpointsNotReached => "endpoints_not_reached",
            Unfit::DiskFull => "disk_full",
        }
    }
}

/// An owner says every 100 ms that it has nothing to say.
pub const SILENT_AFTER: Duration = Duration::from_secs(1);

/// How well a node knows a group's flows. Smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flows {
    /// It owns them, or held all of them when it last heard from their owner, within [`SILENT_AFTER`].
    CaughtUp,
    /// It held all of them when it last heard from their owner, this long ago. Whether it lacks any depends on whether the owner
    /// was silent for others as well.
    Silent(Duration),
    /// It was caught up this long ago.
    Behind(Duration),
    /// Its kernel kept flows when its daemon started; how many are missing since, nobody knows.
    Kept,
    /// It has none: it never was caught up, or its kernel has lost them.
    Never,
}
