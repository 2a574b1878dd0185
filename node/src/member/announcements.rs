//! Announcing once more while a lease is held: an interface returned, or got another hardware address, or an address
//! joined the group; and every few seconds, because a neighbour may have missed what it was told. Neighbours that know
//! the address elsewhere go on sending there until they ask again, which for some is hours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_loader::Answer;
use lockstep_model::ids::GroupId;
use lockstep_ownership::message::Tenure;
use tokio::sync::watch;

use super::events::announce_again;
use crate::announce::{REFRESH, pause_between};
use crate::parts::Parts;
use crate::reconcile::Programmed;

type Answers = BTreeMap<GroupId, BTreeSet<Answer>>;

/// Runs until the reconciler ends.
pub(super) async fn run(parts: Arc<Parts>, mut programmed: watch::Receiver<Programmed>) {
    let mut before = programmed.borrow_and_update().answers.clone();
    while programmed.changed().await.is_ok() {
        let now = programmed.borrow_and_update().answers.clone();
        let (Some(dataplane), Some(lease)) = (&parts.dataplane, parts.lease()) else { return };
        for tenure in lease.held() {
            if moved(&before, &now, tenure.group) {
                tracing::info!(
                    group = parts.group_name(tenure.group),
                    "addresses have moved on this node: announced again"
                );
                dataplane.announce(tenure);
                tokio::spawn(announce_again(parts.clone(), tenure));
            }
        }
        before = now;
    }
}

/// Runs forever.
pub(super) async fn refresh(parts: Arc<Parts>) {
    let Some(dataplane) = &parts.dataplane else { return };
    loop {
        let answers = dataplane.programmed().answers;
        let held = parts.lease().map(|lease| lease.held()).unwrap_or_default();
        let of = |tenure: Tenure| answers.get(&tenure.group).into_iter().flatten().map(move |a| (tenure, a));
        let due: Vec<(Tenure, &Answer)> = held.into_iter().flat_map(of).collect();
        if due.is_empty() {
            tokio::time::sleep(REFRESH).await;
        }
        for (tenure, answer) in &due {
            tokio::time::sleep(pause_between(due.len())).await;
            dataplane.refresh(*tenure, answer);
        }
    }
}

/// Whether an address of a group that was known is answered where it was not before. What a new group has is announced
/// when its lease opens.
fn moved(before: &Answers, now: &Answers, group: GroupId) -> bool {
    before.get(&group).zip(now.get(&group)).is_some_and(|(before, now)| !now.is_subset(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    fn answers(list: &[(u32, u8)]) -> Answers {
        let answer = |(ifindex, mac): &(u32, u8)| Answer {
            ifindex: *ifindex,
            mac: [2, 0, 0, 0, 0, *mac],
            address: [192, 0, 2, 10].into(),
        };
        [(GROUP, list.iter().map(answer).collect())].into()
    }

    #[test]
    fn another_place_or_hardware_address_is_announced_and_less_is_not() {
        let before = answers(&[(2, 1), (3, 1)]);
        assert!(!moved(&before, &before, GROUP));
        assert!(!moved(&before, &answers(&[(2, 1)]), GROUP), "an interface went away");
        assert!(moved(&before, &answers(&[(2, 1), (4, 1)]), GROUP), "it returned under another number");
        assert!(moved(&before, &answers(&[(2, 9), (3, 1)]), GROUP), "it has another hardware address");
        assert!(moved(&answers(&[]), &before, GROUP));
        assert!(!moved(&Answers::new(), &before, GROUP), "the lease of a new group opens later");
    }
}
