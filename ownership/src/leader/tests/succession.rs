//! Who leads next, and how soon.

use super::*;

#[test]
fn leadership_moves_to_a_live_voter_that_owns_nothing() {
    let mut b = Bench::led_by(1);
    b.owned(0, 5, Some((5, 1)));
    let transfers = |b: &mut Bench, from, until, says: [Option<Says>; 3]| {
        let mut transfers = Vec::new();
        for ms in (from..=until).step_by(40) {
            for (node, says) in (1..).zip(&says) {
                if let Some(says) = says {
                    b.says(ms, node, says);
                }
            }
            while let Some(output) = b.leader.poll_output() {
                if let Output::TransferLeader(to) = output {
                    transfers.push((ms, to.get()));
                }
            }
        }
        transfers
    };
    let owner = Says { holds: Some(5), ..hears(5) };
    let all = || [Some(owner.clone()), Some(hears(5)), Some(hears(5))];
    assert_eq!(transfers(&mut b, 0, 600, all()), [(120, 3)], "the witness rather than the standby");
    let standby = [Some(owner.clone()), Some(hears(5)), None];
    assert_eq!(transfers(&mut b, 1200, 1340, standby), [(1320, 2)], "it stood still, and listens first");
    b.leader.handle_operator_transfer(at(3000));
    assert_eq!(transfers(&mut b, 3000, 12_960, all()), [], "an operator wanted it here");
    assert_eq!(transfers(&mut b, 13_000, 13_040, all()), [(13_000, 3)]);
    let told = Says { pinned: Duration::from_secs(2), ..hears(5) };
    let elsewhere = [Some(owner.clone()), Some(told), Some(hears(5))];
    assert_eq!(transfers(&mut b, 14_000, 14_000, elsewhere), [], "by way of another node");
    assert_eq!(transfers(&mut b, 14_040, 15_960, all()), []);
    assert_eq!(transfers(&mut b, 16_000, 16_040, all()), [(16_000, 3)]);
}

#[test]
fn a_broken_link_between_owner_and_leader_moves_the_leadership_and_not_the_group() {
    let mut b = served();
    // An operator wants it here, and cannot know.
    b.leader.handle_operator_transfer(at(1000));
    let cut_off = [None, Some(hears(5)), Some(fit())];
    assert_eq!(b.pass(1040, 1960, cut_off.clone()), [], "the owner has its own promise and another");
    assert_eq!(b.leader.counters().transfers, 0, "it may pass");
    for ms in (2000..=2200).step_by(40) {
        b.says(ms, 2, &hears(5));
        b.says(ms, 3, &fit());
    }
    let outputs: Vec<Output> = std::iter::from_fn(|| b.leader.poll_output()).collect();
    assert!(matches!(outputs[..], [Output::TransferLeader(NodeId(2))]), "{outputs:?}");
}

#[test]
fn leadership_does_not_go_to_a_node_that_is_cut_off_from_an_owner() {
    let mut b = Bench::led_by(1);
    b.owned(0, 5, Some((5, 1)));
    let owner = Says { holds: Some(5), ..hears(5) };
    b.pass(0, 2000, [Some(owner.clone()), Some(hears(5)), Some(fit())]);
    let to = |b: &mut Bench| {
        b.leader.transfer_tried = None;
        b.says(2001, 1, &owner);
        std::iter::from_fn(|| b.leader.poll_output()).collect::<Vec<_>>()
    };
    let outputs = to(&mut b);
    assert!(matches!(outputs[..], [Output::TransferLeader(NodeId(2))]), "{outputs:?}");
    b.says(2001, 3, &hears(5));
    let outputs = to(&mut b);
    assert!(matches!(outputs[..], [Output::TransferLeader(NodeId(3))]), "{outputs:?}");
}

/// What a node that follows does: node 1 owns and leads.
fn following(me: u64) -> Bench {
    let mut b = Bench::led_by(me);
    b.leader.handle_leadership(at(0), false, &b.log);
    b.owned(0, 5, Some((5, 1)));
    b.leader.handle_leader(at(0), Some(NodeId(1)), &b.log);
    let owner = Says { holds: Some(5), ..hears(5) };
    assert_eq!(b.pass(0, 1000, [Some(owner), Some(hears(5)), Some(hears(5))]), []);
    b
}

/// When it campaigned, reports coming every millisecond.
fn campaigns(b: &mut Bench, from: u64, until: u64, says: &[Option<Says>; 3]) -> Vec<u64> {
    let mut campaigns = Vec::new();
    for ms in from..=until {
        for (node, says) in (1..).zip(says) {
            if let Some(says) = says {
                b.says(ms, node, says);
            }
        }
        b.leader.handle_timeout(at(ms), &b.log);
        while let Some(output) = b.leader.poll_output() {
            assert_eq!(output, Output::Campaign { against: NodeId(1) });
            campaigns.push(ms);
        }
    }
    campaigns
}

#[test]
fn when_a_leader_that_owned_is_lost_one_voter_after_the_other_campaigns() {
    let lost = [None, Some(fit()), Some(fit())];
    let mut witness = following(3);
    assert_eq!(campaigns(&mut witness, 1001, 2500, &lost), [1001, 2001], "at once, and again after a second");
    let mut standby = following(2);
    assert_eq!(campaigns(&mut standby, 1001, 1500, &lost), [1031], "the witness is first");
    let mut alone = following(2);
    // The witness is lost as well as soon as its last report is too old.
    assert_eq!(campaigns(&mut alone, 1001, 1500, &[None, Some(fit()), None]), [0; 0], "no quorum reports");
}

#[test]
fn nobody_campaigns_against_a_leader_that_is_heard_or_owns_nothing_or_leads_no_more() {
    let mut b = following(3);
    assert_eq!(
        campaigns(&mut b, 1001, 1500, &[None, Some(hears(5)), Some(fit())]),
        [0; 0],
        "one broken link"
    );
    b.leader.handle_leader(at(1500), Some(NodeId(2)), &b.log);
    let lost = [None, Some(fit()), Some(fit())];
    assert_eq!(campaigns(&mut b, 1501, 1700, &lost), [0; 0], "another leads");
    b.leader.handle_leader(at(1700), None, &b.log);
    assert_eq!(campaigns(&mut b, 1701, 1900, &lost), [0; 0], "nobody does");
    b.leader.handle_leader(at(1900), Some(NodeId(1)), &b.log);
    assert_eq!(b.leader.next_deadline(), Some(at(2900)), "it campaigned the moment it heard that");
}

#[test]
fn who_campaigned_decides_as_soon_as_it_leads() {
    let mut b = following(3);
    let lost = [None, Some(fit()), Some(fit())];
    assert_eq!(campaigns(&mut b, 1001, 1010, &lost), [1001]);
    b.leader.handle_leader(at(1011), Some(NodeId(3)), &b.log);
    b.leader.handle_leadership(at(1011), true, &b.log);
    assert_eq!(b.assigned(), [(5, 2, Cause::NotHeard)]);
}

/// It is stopped while the leader is lost for a moment, and hears of that when the leader is long back.
#[test]
fn i13_a_follower_that_stood_still_listens_before_it_campaigns() {
    let mut b = following(3);
    let lost = [None, Some(fit()), Some(fit())];
    assert_eq!(campaigns(&mut b, 5000, 5000, &lost), [0; 0], "what came meanwhile");
    assert_eq!(campaigns(&mut b, 5001, 5300, &[None, Some(hears(5)), Some(hears(5))]), [0; 0]);
    assert_eq!(campaigns(&mut b, 5301, 5310, &lost), [5301]);
    assert_eq!(b.leader.counters().stood_still, 1);
    let mut b = following(3);
    assert_eq!(campaigns(&mut b, 5000, 5200, &lost), [5000 + SUSPECT], "it is lost still");
}

#[test]
fn i13_a_follower_that_knows_that_it_is_behind_does_not_campaign() {
    let mut b = following(3);
    let ahead = |by: u64| Says { applied: Some(5 + by), ..fit() };
    assert_eq!(campaigns(&mut b, 1001, 1500, &[None, Some(ahead(65)), Some(fit())]), [0; 0]);
    let mut b = following(3);
    assert_eq!(campaigns(&mut b, 1001, 1500, &[None, Some(ahead(64)), Some(fit())]), [1001]);
}
