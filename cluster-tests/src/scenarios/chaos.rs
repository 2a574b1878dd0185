//! A short run of chaos, always of the same seed.

use std::time::Duration;

use anyhow::ensure;

use crate::chaos;

const SEED: u64 = 1;
const TIME: Duration = Duration::from_secs(20);

pub(super) fn run() -> anyhow::Result<()> {
    let report = chaos::run_seed(SEED, TIME, "")?;
    println!("{}", report.table());
    ensure!(report.passed(), "{}", report.failures.join("; "));
    Ok(())
}
