//! Histories that have an order, and histories that have none.

use lockstep_seeded::Rng;

use super::*;

/// Two objects, 100 and 200 at revision 10.
fn judge(history: &[Operation]) -> Verdict {
    check(State::new(10, vec![100, 200]), history.to_vec())
}

fn accepted(history: &[Operation]) {
    assert_eq!(judge(history), Verdict::Linearizable);
}

fn rejected(history: &[Operation]) {
    assert!(matches!(judge(history), Verdict::Violation(_)), "{:?}", judge(history));
}

fn read(invoked: Nanos, completed: Nanos, object: usize, value: u64, revision: u64) -> Operation {
    let call = Call::Read { value, revision, changed: revision };
    Operation { invoked, completed: Some(completed), object, call }
}

fn write(invoked: Nanos, completed: Nanos, object: usize, value: u64, made: u64) -> Operation {
    let call = Call::Write { value, expected: None, outcome: Outcome::Done(made) };
    Operation { invoked, completed: Some(completed), object, call }
}

fn lost(invoked: Nanos, object: usize, value: u64) -> Operation {
    let call = Call::Write { value, expected: None, outcome: Outcome::Unknown };
    Operation { invoked, completed: None, object, call }
}

fn compared(invoked: Nanos, completed: Nanos, value: u64, expected: u64, outcome: Outcome) -> Operation {
    let call = Call::Write { value, expected: Some(expected), outcome };
    Operation { invoked, completed: Some(completed), object: 0, call }
}

#[test]
fn i2_one_after_the_other() {
    accepted(&[
        write(0, 1, 0, 101, 11),
        read(2, 3, 0, 101, 11),
        write(4, 5, 1, 201, 12),
        read(6, 7, 0, 101, 12),
    ]);
}

#[test]
fn i2_a_read_beside_a_write_sees_either() {
    accepted(&[write(0, 10, 0, 101, 11), read(2, 3, 0, 100, 10), read(4, 5, 0, 101, 11)]);
}

#[test]
fn i2_a_stale_read_is_rejected() {
    rejected(&[write(0, 1, 0, 101, 11), read(2, 3, 0, 100, 10)]);
}

#[test]
fn i2_what_was_seen_once_is_not_unseen() {
    rejected(&[write(0, 10, 0, 101, 11), read(2, 3, 0, 101, 11), read(4, 5, 0, 100, 10)]);
}

#[test]
fn i2_a_write_that_is_lost_is_rejected() {
    rejected(&[write(0, 1, 0, 101, 11), write(2, 3, 1, 201, 12), read(4, 5, 0, 100, 12)]);
}

#[test]
fn i2_a_write_before_its_beginning_is_rejected() {
    rejected(&[read(0, 1, 0, 101, 11), write(2, 3, 0, 101, 11)]);
}

#[test]
fn i2_revisions_follow_real_time() {
    rejected(&[write(0, 1, 0, 101, 12), write(2, 3, 1, 201, 11)]);
    accepted(&[write(0, 3, 0, 101, 12), write(0, 3, 1, 201, 11)]);
}

#[test]
fn i2_one_revision_has_one_state() {
    rejected(&[write(0, 9, 0, 101, 11), read(1, 2, 0, 101, 11), read(3, 4, 1, 999, 11)]);
}

#[test]
fn i2_a_write_at_another_revision_than_it_demands_is_rejected() {
    rejected(&[write(0, 1, 0, 101, 11), compared(2, 3, 102, 10, Outcome::Done(12))]);
    accepted(&[write(0, 1, 0, 101, 11), compared(2, 3, 102, 11, Outcome::Done(12))]);
}

#[test]
fn i2_a_conflict_needs_a_change() {
    rejected(&[compared(0, 1, 101, 10, Outcome::Conflict)]);
    accepted(&[write(0, 3, 1, 201, 11), compared(1, 2, 101, 10, Outcome::Conflict)]);
    accepted(&[lost(0, 1, 201), compared(1, 2, 101, 10, Outcome::Conflict)]);
}

#[test]
fn i2_two_writes_at_one_revision_cannot_both_be_done() {
    rejected(&[compared(0, 9, 101, 10, Outcome::Done(11)), compared(0, 9, 102, 10, Outcome::Done(12))]);
}

#[test]
fn i2_an_unknown_write_may_come_late_or_never() {
    accepted(&[lost(0, 0, 101), read(2, 3, 0, 100, 10)]);
    accepted(&[lost(0, 0, 101), read(2, 3, 0, 100, 10), read(4, 5, 0, 101, 11)]);
    // Nobody read it, and it moved the revision.
    accepted(&[lost(0, 0, 101), read(2, 3, 1, 200, 11)]);
}

#[test]
fn i2_an_unknown_write_does_not_go_away_again() {
    rejected(&[lost(0, 0, 101), read(2, 3, 0, 101, 11), read(4, 5, 0, 100, 11)]);
}

/// A register that is linearizable by construction: each operation takes effect at a moment between its ends.
fn random(seed: u64, count: u64) -> Vec<Operation> {
    let mut rng = Rng::new(seed);
    let (mut revision, mut values, mut changed) = (10, vec![100, 200], vec![10, 10]);
    let mut history = Vec::new();
    for number in 0..count {
        let at = number * 10;
        let (invoked, completed) = (at.saturating_sub(rng.below(25)), at + 1 + rng.below(25));
        let object = rng.below(2) as usize;
        // One in forty, as in runs of chaos.
        let told = rng.below(40) > 0;
        let call = if rng.below(2) == 0 {
            Call::Read { value: values[object], revision, changed: changed[object] }
        } else {
            let expected = (rng.below(3) == 0).then(|| revision - rng.below(2));
            let value = 1000 + number;
            let outcome = if expected.is_some_and(|expected| expected != revision) {
                Outcome::Conflict
            } else if !told && rng.below(2) == 0 {
                // It never happened.
                Outcome::Unknown
            } else {
                revision += 1 + rng.below(3);
                (values[object], changed[object]) = (value, revision);
                Outcome::Done(revision)
            };
            let outcome = if told { outcome } else { Outcome::Unknown };
            Call::Write { value, expected, outcome }
        };
        let is_read = matches!(call, Call::Read { .. });
        let completed = (told || is_read).then_some(completed);
        history.push(Operation { invoked, completed, object, call });
    }
    history
}

#[test]
fn i2_random_histories_that_have_an_order_are_accepted() {
    for seed in 0..30 {
        accepted(&random(seed, 100));
    }
}

#[test]
fn i2_random_histories_with_one_stale_read_are_rejected() {
    for seed in 0..30 {
        let mut history = random(seed, 60);
        // Long after everything else, the first revision.
        history.push(read(100_000, 100_001, 0, 100, 10));
        rejected(&history);
    }
}

/// Every order of every part of what is unknown and all of the rest, without any of the search's shortcuts.
fn has_an_order(state: &State, left: &[Operation]) -> bool {
    if left.iter().all(|operation| operation.completed.is_none()) {
        return true;
    }
    let answered = left.iter().filter_map(|operation| operation.completed).min().unwrap_or(Nanos::MAX);
    left.iter().enumerate().filter(|(_, operation)| operation.invoked <= answered).any(
        |(index, operation)| {
            let rest = [&left[..index], &left[index + 1..]].concat();
            state.after(operation).is_some_and(|state| has_an_order(&state, &rest))
        },
    )
}

#[test]
fn i2_the_shortcuts_change_no_verdict() {
    let mut verdicts = [0, 0];
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let mut history = random(seed, 9);
        for _ in 0..rng.below(3) {
            let index = rng.below(9) as usize;
            match &mut history[index] {
                Operation { call: Call::Read { value, .. }, .. } => *value = 1000 + rng.below(9),
                Operation { call: Call::Write { outcome, .. }, completed, .. } => {
                    (*outcome, *completed) = (Outcome::Unknown, None);
                }
            }
        }
        pin(&mut history);
        let initial = State::new(10, vec![100, 200]);
        let ordered = has_an_order(&initial, &history);
        verdicts[usize::from(ordered)] += 1;
        match check(initial, history.clone()) {
            Verdict::Linearizable => assert!(ordered, "seed {seed}: {history:?} has no order"),
            Verdict::Violation(why) => assert!(!ordered, "seed {seed}: {history:?} has one: {why}"),
            Verdict::Undecided => panic!("seed {seed} is not decided"),
        }
    }
    assert!(verdicts.iter().all(|count| *count > 300), "{verdicts:?} without and with an order");
}

#[test]
fn i2_a_long_history_with_many_unknown_writes_is_decided() {
    for seed in 0..3 {
        accepted(&random(seed, 10_000));
    }
}
