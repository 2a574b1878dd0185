//! The clocks that leases are reckoned on.

use std::time::Duration;

use super::Findings;
use crate::lease;

/// The kernel's programs reckon with ticks and allow for eight of them; a lease of the profile `fast` lasts 45 ms.
const LONG_TICK: Duration = Duration::from_millis(4);

pub(super) fn check(findings: &mut Findings) {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    match lease::refuse_shifted(&offsets) {
        Ok(()) => findings.ok("clock", "the kernel's, in no time namespace"),
        Err(reason) => findings.fail("clock", reason),
    }
    match lockstep_loader::tick() {
        None => findings.warn("tick", "/proc/timer_list does not tell the jiffies: each packet reads the precise clock, which costs some 20 ns"),
        Some(tick) if tick > LONG_TICK => findings.warn("tick", format!("{} ms (CONFIG_HZ={}): for the lease profile `fast` each packet reads the precise clock; a kernel with CONFIG_HZ=250 or more does not need to", tick.as_millis(), hertz(tick))),
        Some(tick) => findings.ok("tick", format!("{} ms (CONFIG_HZ={})", tick.as_millis(), hertz(tick))),
    }
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if let Ok(source) = std::fs::read_to_string(source) {
        match source.trim() {
            slow @ ("hpet" | "acpi_pm" | "jiffies") => findings.warn("clocksource", format!("{slow} takes a microsecond or more to read; allowed and better: tsc, kvm-clock, arch_sys_counter")),
            other => findings.ok("clocksource", other),
        }
    }
}

fn hertz(tick: Duration) -> u128 {
    (Duration::from_secs(1).as_nanos() + tick.as_nanos() / 2) / tick.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_told_in_hertz() {
        assert_eq!(hertz(Duration::from_millis(4)), 250);
        assert_eq!(hertz(Duration::from_nanos(3_333_333)), 300);
        assert_eq!(hertz(Duration::from_nanos(1_000_000)), 1000);
    }
}
