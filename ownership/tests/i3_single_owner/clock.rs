//! A node's clock: its own offset, and a rate within the bound that I3 allows.

use lockstep_ownership::time::Instant;

const MILLION: u64 = 1_000_000;
/// Two clocks of the extreme rates differ by just under 1 %.
pub(crate) const MAX_PPM: u64 = 4_950;

#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) offset: u64,
    /// The rate in parts per million, `MILLION ± MAX_PPM`.
    pub(crate) rate: u64,
}

impl Clock {
    pub(crate) fn new(offset: u64, ppm_above_slowest: u64) -> Self {
        Self { offset, rate: MILLION - MAX_PPM + ppm_above_slowest }
    }

    pub(crate) fn local(self, at: u64) -> Instant {
        Instant::from_nanos(self.offset + (at as u128 * self.rate as u128 / MILLION as u128) as u64)
    }

    /// The first true time at which the clock shows `local` or more.
    pub(crate) fn real(self, local: Instant) -> u64 {
        let local = local.as_nanos().saturating_sub(self.offset) as u128;
        (local * MILLION as u128).div_ceil(self.rate as u128) as u64
    }
}
