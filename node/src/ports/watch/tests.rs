use super::*;

const FIRST: u64 = FIRST_PORT_BLOCKS;

fn address() -> IpAddr {
    [192, 0, 2, 10].into()
}

fn seen(held: u64, busy: u64, used: u32) -> Observation {
    Observation { address: address(), epoch: Epoch(7), held, busy, used }
}

fn allocate(count: u8) -> Vec<Decision> {
    vec![Decision::Propose(address(), Command::AllocatePortBlocks { address: address(), count })]
}

fn release(blocks: u64) -> Vec<Decision> {
    vec![Decision::Propose(address(), Command::ReleasePortBlocks { address: address(), blocks })]
}

/// A pass a minute, from `from` to `to`; what the last one decided.
fn minutes(
    watch: &mut PortWatch,
    start: Instant,
    range: std::ops::RangeInclusive<u64>,
    observation: &Observation,
) -> Vec<Decision> {
    let mut last = Vec::new();
    for minute in range {
        let at = start + Duration::from_secs(60 * minute);
        last = watch.observe(at, std::slice::from_ref(observation), false);
    }
    last
}

#[test]
fn more_ports_are_asked_for_at_eighty_percent_and_make_it_half_full() {
    let now = Instant::now();
    let mut watch = PortWatch::default();
    assert_eq!(watch.observe(now, &[seen(FIRST, FIRST, 3276)], false), []);
    // 3277 of 4096 are 80 %; seven blocks have 7168.
    assert_eq!(watch.observe(now, &[seen(FIRST, FIRST, 3277)], false), allocate(3));
}

#[test]
fn one_proposal_is_out_for_an_address_and_the_next_waits() {
    let now = Instant::now();
    let mut watch = PortWatch::default();
    let full = [seen(FIRST, FIRST, 4096)];
    assert_eq!(watch.observe(now, &full, false), allocate(4));
    assert_eq!(watch.observe(now, &full, false), [], "one is out");
    watch.answered(now, address(), true);
    assert_eq!(watch.observe(now + MIN_BETWEEN - Duration::from_nanos(1), &full, false), []);
    assert_eq!(watch.observe(now + MIN_BETWEEN, &full, false), allocate(4));
}

#[test]
fn a_failed_proposal_is_tried_again_ever_more_slowly_but_never_given_up() {
    let mut now = Instant::now();
    let mut watch = PortWatch::default();
    let full = [seen(FIRST, FIRST, 4096)];
    for seconds in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
        assert_eq!(watch.observe(now, &full, false), allocate(4));
        watch.answered(now, address(), false);
        let wait = Duration::from_secs(seconds);
        assert_eq!(watch.observe(now + wait - Duration::from_nanos(1), &full, false), [], "{seconds}");
        now += wait;
    }
    assert_eq!(watch.observe(now, &full, false), allocate(4));
}

#[test]
fn refused_flows_double_an_address_whatever_the_last_pass_found() {
    let now = Instant::now();
    let mut watch = PortWatch::default();
    assert_eq!(watch.observe(now, &[seen(FIRST, 0, 0)], true), allocate(4));
    watch.answered(now, address(), true);
    let later = now + MIN_BETWEEN;
    assert_eq!(watch.observe(later, &[seen(0xffff_ffff << 1, 0, 0)], true), allocate(16), "a bounded step");
    watch.answered(later, address(), true);
    let last = later + MIN_BETWEEN;
    assert_eq!(
        watch.observe(last, &[seen(PORT_BLOCKS & !2, 0, 0)], true),
        allocate(1),
        "no more than there are"
    );
}

#[test]
fn an_address_that_has_every_block_asks_for_no_more() {
    let mut watch = PortWatch::default();
    let decisions = watch.observe(Instant::now(), &[seen(PORT_BLOCKS, PORT_BLOCKS, ALL_PORTS)], true);
    assert_eq!(decisions, [Decision::Alarm { address: address(), used: ALL_PORTS, total: ALL_PORTS }]);
}

#[test]
fn i8_blocks_empty_for_five_minutes_are_given_back_and_the_first_are_kept() {
    let start = Instant::now();
    let mut watch = PortWatch::default();
    let quiet = seen(FIRST | 0b1110, 0b0010, 1);
    assert_eq!(minutes(&mut watch, start, 0..=4, &quiet), []);
    assert_eq!(minutes(&mut watch, start, 5..=5, &quiet), release(0b1100), "not the one in use");
    watch.answered(start + Duration::from_secs(300), address(), true);
    let rest = seen(FIRST | 0b0010, 0, 0);
    assert_eq!(minutes(&mut watch, start, 6..=10, &rest), []);
    assert_eq!(minutes(&mut watch, start, 11..=11, &rest), release(0b0010));
    watch.answered(start + Duration::from_secs(11 * 60), address(), true);
    assert_eq!(minutes(&mut watch, start, 12..=60, &seen(FIRST, 0, 0)), [], "never below the first");
}

#[test]
fn a_block_that_was_in_use_once_starts_anew() {
    let start = Instant::now();
    let mut watch = PortWatch::default();
    let (quiet, busy) = (seen(FIRST | 0b10, 0, 0), seen(FIRST | 0b10, 0b10, 1));
    minutes(&mut watch, start, 0..=4, &quiet);
    minutes(&mut watch, start, 5..=5, &busy);
    assert_eq!(minutes(&mut watch, start, 6..=10, &quiet), []);
    assert_eq!(minutes(&mut watch, start, 11..=11, &quiet), release(0b10));
}

#[test]
fn passes_that_did_not_happen_prove_nothing() {
    let start = Instant::now();
    let mut watch = PortWatch::default();
    let quiet = seen(FIRST | 0b10, 0, 0);
    assert_eq!(minutes(&mut watch, start, 0..=1, &quiet), []);
    assert_eq!(minutes(&mut watch, start, 10..=10, &quiet), [], "nine minutes unseen");
    assert_eq!(minutes(&mut watch, start, 11..=15, &quiet), release(0b10));
}

#[test]
fn growing_and_shrinking_do_not_chase_each_other() {
    let start = Instant::now();
    let mut watch = PortWatch::default();
    // Grown to be half full; what is in use would fill more than half of one block less.
    let grown = seen(FIRST | 0b1110, FIRST, 3277);
    assert_eq!(minutes(&mut watch, start, 0..=30, &grown), []);
    // With a thousand fewer, what is left over goes, and leaves it below the next growth.
    let fewer = seen(FIRST | 0b1110, FIRST, 2277);
    assert_eq!(minutes(&mut watch, start, 31..=31, &fewer), release(0b1100));
    let (held, used) = (FIRST | 0b0010, 2277);
    assert_eq!(wanted(&seen(held, FIRST, used), false), 0);
}

#[test]
fn another_tenure_begins_anew() {
    let start = Instant::now();
    let mut watch = PortWatch::default();
    let quiet = seen(FIRST | 0b10, 0, 0);
    minutes(&mut watch, start, 0..=4, &quiet);
    let again = Observation { epoch: Epoch(9), ..quiet };
    assert_eq!(minutes(&mut watch, start, 5..=9, &again), []);
    assert_eq!(minutes(&mut watch, start, 10..=10, &again), release(0b10));
    // Lost and taken back while a proposal is out: still one at a time.
    assert_eq!(watch.observe(start + Duration::from_secs(601), &[], false), []);
    let full = Observation { epoch: Epoch(11), ..seen(FIRST, FIRST, 4096) };
    assert_eq!(watch.observe(start + Duration::from_secs(602), std::slice::from_ref(&full), false), []);
    watch.answered(start + Duration::from_secs(603), address(), true);
    assert_eq!(watch.observe(start + Duration::from_secs(608), &[full], false), allocate(4));
}

#[test]
fn the_alarm_is_told_once_in_each_direction() {
    let now = Instant::now();
    let mut watch = PortWatch::default();
    let mut tell = |used| watch.observe(now, &[seen(PORT_BLOCKS, PORT_BLOCKS, used)], false);
    let total = ALL_PORTS;
    assert_eq!(total, 64_512);
    assert_eq!(tell(51_609), []);
    assert_eq!(tell(51_610), [Decision::Alarm { address: address(), used: 51_610, total }]);
    assert_eq!(tell(60_000), []);
    assert_eq!(tell(45_159), [], "still above 70 %");
    assert_eq!(tell(45_158), [Decision::AlarmOver { address: address(), used: 45_158, total }]);
    assert_eq!(tell(45_158), []);
}
