//! What the sending side counts.

macro_rules! counters {
    ($(#[$doc:meta])* $type:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $type {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $type {
            /// Every counter by name, also those at zero.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// Events of the sending side since the start.
    OriginCounters {
        /// Changes taken from the kernel.
        changes,
        /// Changes of a group that this node does not own.
        changes_not_owned,
        /// Changes that happened under another epoch than the one the group is owned in: its walk carries them.
        changes_of_other_epochs,
        /// Changes older than what was already waiting.
        changes_stale,
        /// Flows too young for their service's policy: kept.
        young_held,
        /// Of those, removed before they were old enough, or closed by then.
        young_ended,
        /// Of those, closed when they were old enough: never sent.
        young_closed,
        /// Young flows sent at once, because too many wait already.
        young_overflows,
        /// Waiting changes replaced by a newer one before they were sent.
        superseded,
        /// Times the kernel reported lost events.
        lost,
        /// Streams that had more waiting than the limit; walked instead.
        overflows,
        /// Records sent.
        records_sent,
        /// Records acknowledged.
        records_acknowledged,
        /// Refused: the peer's table is full.
        nacks_full,
        /// Refused: the peer does not know the group, service or VIP.
        nacks_unknown_group,
        /// Refused: the peer's kernel said no.
        nacks_failed,
        /// Refused for good: the peer knows a newer epoch.
        nacks_old_epoch,
        /// Walks that would have removed a group from a peer that has heard later that it is to hold it.
        nacks_outdated,
        /// Acknowledgements that belong to an earlier life of the stream.
        late_acks,
        /// Streams closed because the subscriber broke the protocol.
        protocol_errors,
        /// Streams closed because nothing was acknowledged for too long.
        stalls,
        /// Streams that went on where they were.
        resumed,
        /// Streams that began with a walk.
        not_resumed,
        /// Passes over the table.
        passes,
        /// Walks finished and acknowledged.
        walks,
        /// Pages of the table that could not be read.
        pages_failed,
        /// Records read by a pass whose flow had been removed meanwhile.
        walk_records_removed,
        /// Rounds of digests begun.
        audits,
        /// Streams whose subscriber compared.
        audits_done,
        /// Streams that left a round: a walk, a refusal, a cut, or too much to note; the next round has them again.
        audits_abandoned,
        /// Buckets that differed, by word of the subscriber.
        audit_suspects,
    }
}
