//! Plain counters of the lease thread, by name, every reason also at zero (I14).

use std::collections::BTreeMap;

use lockstep_ownership::leader::Cause;
use lockstep_ownership::message::RefusalReason;
use lockstep_ownership::participant::Participant;

use super::clock;
use super::realtime::Granted;
use super::seal::Dropped;

/// What the thread itself counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: BTreeMap<Dropped, u64>,
    /// The kernel did not take a datagram.
    pub(crate) send_failures: u64,
    /// A peer's address is not known (yet).
    pub(crate) send_unaddressed: u64,
    pub(crate) too_large: u64,
    pub(crate) receive_failures: u64,
    /// Lease ends that had passed before they could be written.
    pub(crate) writes_too_late: u64,
    /// The group was not in the kernel (yet).
    pub(crate) writes_refused: u64,
    /// Leases opened before what was queued had been applied.
    pub(crate) opened_unprepared: u64,
    pub(crate) grace_period_failures: u64,
    /// Events that found their queue full.
    pub(crate) events_lost: u64,
    /// Wake-ups later than a deadline by more than a millisecond.
    pub(crate) late_wakeups: u64,
    /// The latest of them, µs.
    pub(crate) latest_wakeup_us: u64,
    /// Turns that the stand-in took, because the thread's processor stood still.
    pub(crate) stand_in_turns: u64,
    /// What the thread was granted; shown as 0 or 1.
    pub(crate) granted: Granted,
}

impl Counters {
    /// Everything that the thread, the voter and the owner count.
    pub(crate) fn all(&self, participant: &Participant) -> Vec<(String, u64)> {
        let (voter, owner) = (participant.voter().counters(), participant.owner().counters());
        let plain = [
            ("datagrams_received", self.received),
            ("datagrams_sent", self.sent),
            ("send_failures", self.send_failures),
            ("send_unaddressed", self.send_unaddressed),
            ("too_large", self.too_large),
            ("receive_failures", self.receive_failures),
            ("writes_too_late", self.writes_too_late),
            ("writes_refused", self.writes_refused),
            ("opened_unprepared", self.opened_unprepared),
            ("grace_period_failures", self.grace_period_failures),
            ("events_lost", self.events_lost),
            ("late_wakeups", self.late_wakeups),
            ("latest_wakeup_us", self.latest_wakeup_us),
            ("stand_in_turns", self.stand_in_turns),
            ("realtime_priority", u64::from(self.granted.priority)),
            ("memory_locked", u64::from(self.granted.memory)),
            ("intent_stale", u64::from(participant.owner().intent_is_stale())),
            ("promises_in_force", participant.voter().promises(clock::now()).count() as u64),
            ("voter_granted", voter.granted),
            ("voter_queued", voter.queued),
            ("voter_granted_from_queue", voter.granted_from_queue),
            ("voter_queue_expired", voter.queue_expired),
            ("voter_released", voter.released),
            ("voter_release_not_assignee", voter.release_not_assignee),
            ("owner_requests", owner.requests),
            ("owner_opened", owner.opened),
            ("owner_renewed", owner.renewed),
            ("owner_lapsed", owner.lapsed),
            ("owner_late_replies", owner.late_replies),
            ("owner_releases", owner.releases),
            ("owner_releases_given_up", owner.releases_given_up),
        ];
        let mut all: Vec<(String, u64)> = plain.map(|(name, value)| (name.to_owned(), value)).to_vec();
        for reason in Dropped::ALL {
            all.push((format!("dropped_{}", reason.name()), self.dropped.get(&reason).copied().unwrap_or(0)));
        }
        for reason in RefusalReason::ALL {
            let count = |of: &BTreeMap<RefusalReason, u64>| of.get(&reason).copied().unwrap_or(0);
            all.push((format!("voter_refused_{}", reason.name()), count(&voter.refused)));
            all.push((format!("owner_refused_{}", reason.name()), count(&owner.refused)));
        }
        all
    }
}

/// What this node decided while it led.
pub(crate) fn of_leader(participant: &Participant) -> Vec<(String, u64)> {
    let leader = participant.leader().counters();
    let plain = [
        ("replicas_proposed", leader.replicas),
        ("takeover_without_flows", leader.takeover_without_flows),
        ("leadership_transfers", leader.transfers),
        ("leadership_campaigns", leader.campaigns),
        ("judged_blind", leader.blind),
        ("leader_stood_still", leader.stood_still),
    ];
    let mut all: Vec<(String, u64)> = plain.map(|(name, value)| (name.to_owned(), value)).to_vec();
    for cause in Cause::ALL {
        let count = leader.proposed.get(&cause).copied().unwrap_or(0);
        all.push((format!("assignments_{}", cause.name()), count));
    }
    all
}
