//! The kernel's clock as the programs read it: `bpf_ktime_get_ns` is CLOCK_MONOTONIC.

use std::time::Duration;

use nix::time::{ClockId, clock_getres, clock_gettime};

/// An instant of CLOCK_MONOTONIC, in nanoseconds: what leases, births and `last_seen` are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KernelInstant(pub u64);

impl KernelInstant {
    /// The precise clock, now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux");
        Self(Duration::from(time).as_nanos() as u64)
    }

    /// Later by `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The kernel's ticks (jiffies), as the programs reckon with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// 0: not to be used, the precise clock decides.
    pub(crate) length_ns: u64,
    /// What `jiffies * length_ns` lacks to be CLOCK_MONOTONIC.
    pub(crate) offset_ns: u64,
}

/// Where the kernel shows its jiffies.
const TIMER_LIST: &str = "/proc/timer_list";
/// The list takes about a tick to read, so that one reading rarely tells enough.
const READINGS: u32 = 32;
/// As far off the offset may be: the programs allow for more.
const TOLERANCE_TICKS: i64 = 2;

impl Ticks {
    /// The coarse clock moves with the jiffies, a tick at a time (`tick_do_update_jiffies64`). It is read before and
    /// after the jiffies, which bounds the offset from both sides; where the bounds do not come close, ticks are not
    /// used.
    pub(crate) fn measure() -> Self {
        let length_ns = nanos(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE));
        let mut bounds: Option<(i64, i64)> = None;
        for _ in 0..READINGS {
            let before = nanos(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE));
            let Some(jiffies) = std::fs::read_to_string(TIMER_LIST).ok().as_deref().and_then(jiffies) else {
                break;
            };
            let after = nanos(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE));
            let ticked = jiffies.wrapping_mul(length_ns);
            let found = (before.wrapping_sub(ticked) as i64, after.wrapping_sub(ticked) as i64);
            let (low, high) = bounds.map_or(found, |(low, high)| (low.max(found.0), high.min(found.1)));
            bounds = Some((low, high));
            if low >= high {
                break;
            }
        }
        match bounds {
            Some((low, high)) if high - low <= TOLERANCE_TICKS * length_ns as i64 => {
                Self { length_ns, offset_ns: low as u64 }
            }
            _ => {
                tracing::warn!("{TIMER_LIST} does not tell the jiffies: each packet reads the precise clock");
                Self { length_ns: 0, offset_ns: 0 }
            }
        }
    }
}

fn nanos(time: nix::Result<nix::sys::time::TimeSpec>) -> u64 {
    Duration::from(time.expect("CLOCK_MONOTONIC_COARSE exists on every Linux")).as_nanos() as u64
}

/// The last line that tells: one for each processor, all of the same counter.
fn jiffies(timer_list: &str) -> Option<u64> {
    timer_list.lines().rev().find_map(|line| line.strip_prefix("jiffies: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_to_the_clock() {
        let ticks = Ticks::measure();
        let jiffies = || jiffies(&std::fs::read_to_string(TIMER_LIST).unwrap()).unwrap();
        let before = KernelInstant::now().0;
        let ticked = jiffies().wrapping_mul(ticks.length_ns).wrapping_add(ticks.offset_ns);
        let slack = 8 * ticks.length_ns;
        assert!(ticked + slack >= before, "{ticked} is long before {before}");
        assert!(ticked <= KernelInstant::now().0 + slack, "{ticked} is in the future");
    }

    #[test]
    fn jiffies_are_where_the_kernel_shows_them() {
        let text = "cpu: 0\n  .idle_jiffies   : 7\njiffies: 4295338721\n\ncpu: 1\njiffies: 4295338722\n";
        assert_eq!(jiffies(text), Some(4_295_338_722));
        assert_eq!(jiffies("  .last_jiffies   : 7\n"), None);
    }
}
