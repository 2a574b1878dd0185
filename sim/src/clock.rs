//! A node's clock: its own offset and its own rate.

use lockstep_ownership::time::Instant;

const MILLION: u64 = 1_000_000;
/// Two clocks of the extreme rates differ by just under 1 %, which I3 allows.
pub const MAX_PPM: u64 = 4_950;

/// A clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    offset_ns: u64,
    /// In parts per million of true time.
    rate: u64,
}

impl Clock {
    /// `ppm_above_slowest`: up to `2 * MAX_PPM` for a clock within the bound.
    pub fn new(offset_ns: u64, ppm_above_slowest: u64) -> Self {
        Self { offset_ns, rate: MILLION - MAX_PPM + ppm_above_slowest }
    }

    /// What it shows at a true time.
    pub fn local(self, at_ns: u64) -> Instant {
        let elapsed = u128::from(at_ns) * u128::from(self.rate) / u128::from(MILLION);
        Instant::from_nanos(self.offset_ns + elapsed as u64)
    }

    /// The first true time at which it shows `local` or more.
    pub fn real(self, local: Instant) -> u64 {
        let elapsed = u128::from(local.as_nanos().saturating_sub(self.offset_ns));
        (elapsed * u128::from(MILLION)).div_ceil(u128::from(self.rate)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_shows_is_when_it_shows_it() {
        for ppm in [0, 17, MAX_PPM, 2 * MAX_PPM] {
            let clock = Clock::new(1 << 40, ppm);
            for at in [0, 1, 999_999_937, 12_345_678_901] {
                let real = clock.real(clock.local(at));
                assert!(real <= at && at - real <= 1, "{ppm} ppm: {at} -> {real}");
            }
        }
    }
}
