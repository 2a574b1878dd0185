//! The two clocks: leases are reckoned on CLOCK_MONOTONIC_RAW, which nobody slews, and checked by the kernel
//! programs against CLOCK_MONOTONIC.

use std::time::Duration;

use lockstep_ownership::time::Instant;
use nix::time::{ClockId, clock_gettime};

/// By how much CLOCK_MONOTONIC may run slower than CLOCK_MONOTONIC_RAW, in parts of a thousand. The kernel
/// bounds the frequency correction to 500 ppm (MAXFREQ in include/linux/timex.h) and the phase correction of
/// its PLL to as much again.
const MAX_SLEW_PER_MILLE: u32 = 1;

/// From a program's reading of the clock to its packet being out: the lease is shortened by this.
pub(crate) const CLOCK_STEP: Duration = Duration::from_micros(100);

/// CLOCK_MONOTONIC_RAW, now.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(read(ClockId::CLOCK_MONOTONIC_RAW))
}

fn monotonic() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("this clock exists on every Linux");
    Duration::from(time).as_nanos() as u64
}

/// The latest reading of CLOCK_MONOTONIC that certainly comes no later than `until`; `None` once that has
/// passed. The two clocks are read in this order so that a preemption between makes the result earlier.
pub(crate) fn kernel_until(until: Instant) -> Option<u64> {
    let monotonic = monotonic();
    convert(until, now(), monotonic)
}

fn convert(until: Instant, raw: Instant, monotonic: u64) -> Option<u64> {
    let left = until.since(raw);
    let certain = left - left * MAX_SLEW_PER_MILLE / 1000;
    (!certain.is_zero()).then(|| monotonic + certain.as_nanos() as u64)
}

/// A past instant on CLOCK_MONOTONIC, for display.
pub(crate) fn to_monotonic(at: Instant) -> u64 {
    let age = now().since(at);
    monotonic().saturating_sub(age.as_nanos() as u64)
}

/// A time namespace shifts CLOCK_MONOTONIC for user space only: every lease would be written on the wrong
/// clock.
pub(crate) fn refuse_shifted(offsets: &str) -> Result<(), String> {
    for line in offsets.lines() {
        let mut words = line.split_whitespace();
        let clock = words.next().unwrap_or_default();
        if words.any(|word| word != "0") {
            return Err(format!(
                "/proc/self/timens_offsets: {clock} is shifted; allowed: 0 (leases would be written on another clock than the kernel's)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_end_comes_first() {
        let raw = Instant::from_nanos(5_000_000_000);
        assert_eq!(convert(raw + Duration::from_millis(100), raw, 77), Some(77 + 99_900_000));
        assert_eq!(convert(raw, raw, 77), None);
        assert_eq!(convert(Instant::from_nanos(1), raw, 77), None);
    }

    #[test]
    fn a_shifted_time_namespace_is_refused() {
        assert!(refuse_shifted("monotonic           0         0\nboottime            0         0\n").is_ok());
        let refused = refuse_shifted("monotonic           0         0\nboottime      86400         0\n");
        assert!(refused.is_err_and(|e| e.contains("boottime")));
        assert!(refuse_shifted("").is_ok(), "a kernel without time namespaces");
    }
}
