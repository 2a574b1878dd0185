//! What the receiving side counts.

use crate::origin::counters::counters;

counters! {
    /// Events of the receiving side since the start.
    ReceiverCounters {
        /// Records received.
        records_received,
        /// Writes that changed the table.
        applied,
        /// Writes that the table knew something at least as new for.
        stale,
        /// Writes that found the table full.
        failed_full,
        /// Writes for a group, service or VIP that is not known here.
        failed_unknown_group,
        /// Writes that the kernel refused for another reason.
        failed_kernel,
        /// Records refused because their epoch is older than one known here.
        refused_old_epoch,
        /// Records refused, whatever the reason.
        nacks,
        /// Records of the former owner written after this node took over.
        inherited,
        /// Messages that had been received before.
        duplicates,
        /// Messages of an earlier life of their stream.
        late_messages,
        /// Streams closed because the origin broke the protocol.
        protocol_errors,
        /// Streams closed because too many records were refused.
        refused_overflows,
        /// Walks finished.
        walks,
        /// Walk markers ignored: owned here, or of an older epoch.
        walks_refused,
        /// Flows removed because a walk had not mentioned them.
        swept,
        /// Groups not taken note of: more than a cluster can have.
        groups_over_limit,
        /// Sweeps that failed.
        sweeps_failed,
        /// Digests compared: one for each stream and round.
        audits,
        /// Buckets that differed.
        audit_suspects,
        /// Flows that the owner holds and this node did not, with nothing on its way; written since.
        divergences_missing,
        /// Flows that this node held and the owner does not; removed since.
        divergences_extra,
        /// Flows held with another translation, state or number of changes than the owner's; replaced since.
        divergences_changed,
    }
}
