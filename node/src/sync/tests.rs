//! Two nodes with tables in memory, over real streams on loopback.

mod node;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_model::ids::Epoch;
use lockstep_sync_core::SyncState;

use node::{GROUP, Pair, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_flows_of_the_owner_appear_on_the_standby_and_go_with_it() {
    let pair = Pair::start();
    pair.a.own(Epoch(10));
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;

    (0..500).for_each(|number| pair.a.table.packet(number, Epoch(10)));
    until("all flows", || pair.b.table.content() == pair.a.table.content()).await;
    (0..100).for_each(|number| pair.a.table.expire(number));
    until("no ended flows", || pair.b.table.content() == pair.a.table.content()).await;
    assert_eq!(pair.b.table.content().len(), 400);
    assert!(pair.a.sync.flush(Duration::from_secs(5)));
    assert_eq!(pair.counter("origin_lost"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_the_kernel_could_not_report_is_walked() {
    let pair = Pair::start();
    pair.a.own(Epoch(10));
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
    (0..5000).for_each(|number| pair.a.table.packet_unreported(number, Epoch(10)));
    until("all flows", || pair.b.table.content() == pair.a.table.content()).await;
    until("the loss to be counted", || pair.counter("origin_lost") > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_standby_that_joins_late_gets_everything() {
    let pair = Pair::apart();
    pair.a.own(Epoch(10));
    (0..20_000).for_each(|number| pair.a.table.packet(number, Epoch(10)));
    pair.join();
    until("all flows", || pair.b.table.content() == pair.a.table.content()).await;
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_takeover_finds_what_had_arrived_and_replicates_it_back() {
    let pair = Pair::start();
    pair.a.own(Epoch(10));
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
    (0..300).for_each(|number| pair.a.table.packet(number, Epoch(10)));
    assert!(pair.a.sync.flush(Duration::from_secs(5)));
    pair.a.close(Epoch(10));

    pair.b.own(Epoch(11));
    assert_eq!(pair.b.table.content(), pair.a.table.content());
    (0..300).for_each(|number| pair.b.table.packet(number, Epoch(11)));
    (1000..1100).for_each(|number| pair.b.table.packet(number, Epoch(11)));
    until("the former owner to hold the same", || pair.b.table.content() == pair.a.table.content()).await;
    until("the former owner to be caught up", || pair.a.sync.group_sync(GROUP).state == SyncState::CaughtUp)
        .await;
    until("the new owner to show as that", || pair.b.sync.group_sync(GROUP).state == SyncState::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_waited_for_in_a_takeover_runs_before_ordinary_threads() {
    let pair = Pair::start();
    pair.a.own(Epoch(10));
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
    let lent = || pair.b.sync.threads.lent();
    assert_eq!(lent(), (0, 2));
    std::thread::scope(|scope| {
        let held = pair.b.table.hold(1, Epoch(10));
        scope.spawn(|| pair.b.own(Epoch(11)));
        let deadline = Instant::now() + Duration::from_secs(4);
        while lent() != (2, 2) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let meanwhile = lent();
        drop(held);
        assert_eq!(meanwhile, (2, 2), "threads with real-time priority, which root may give");
    });
    assert_eq!(lent(), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_table_is_refused_counted_and_mended() {
    let pair = Pair::start();
    pair.a.own(Epoch(10));
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
    pair.b.table.limit(100);
    (0..200).for_each(|number| pair.a.table.packet(number, Epoch(10)));
    until("refusals", || pair.counter("origin_nacks_full") > 0).await;
    until("not caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::Syncing).await;
    pair.b.table.limit(usize::MAX);
    until("all flows", || pair.b.table.content() == pair.a.table.content()).await;
    until("caught up again", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_changed_behind_a_daemons_back_is_found_and_repaired() {
    let pair = Pair::start();
    pair.a.own(Epoch(10));
    until("caught up", || pair.b.sync.group_sync(GROUP).state == SyncState::CaughtUp).await;
    (0..5000).for_each(|number| pair.a.table.packet(number, Epoch(10)));
    until("all flows", || pair.b.table.content() == pair.a.table.content()).await;

    pair.b.table.plant(1, 2, 6000);
    assert_ne!(pair.b.table.content(), pair.a.table.content());
    // New flows all the time: they are neither compared nor in the way.
    let fresh = AtomicU64::new(10_000);
    until("one divergence of each kind", || {
        let next = || fresh.fetch_add(1, Ordering::Relaxed);
        (0..20).for_each(|_| pair.a.table.packet(next(), Epoch(10)));
        ["missing", "extra", "changed"]
            .iter()
            .all(|kind| pair.b.counter(&format!("receiver_divergences_{kind}")) == 1)
    })
    .await;
    until("all flows again", || pair.b.table.content() == pair.a.table.content()).await;
    assert_eq!(pair.counter("receiver_divergences_missing"), 0);
}
