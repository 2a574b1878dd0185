//! Times as operators write them: a whole number with one unit.

use std::time::Duration;

/// The finest time that can be written or sent.
pub const RESOLUTION: Duration = Duration::from_millis(1);

/// What a text may be.
pub const FORMS: &str = "a number with ms, s, m, h or d";

const UNITS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The time that a text says.
pub fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale).map(Duration::from_millis)
}

/// In the largest unit that says it exactly; what is finer than [`RESOLUTION`] is cut off.
pub fn show(value: Duration) -> String {
    let ms = millis(value);
    let exact = |(_, scale): &&(&str, u64)| ms.is_multiple_of(*scale);
    let (unit, scale) = UNITS.iter().filter(|_| ms > 0).find(exact).unwrap_or(&("s", 1000));
    format!("{}{unit}", ms / scale)
}

/// Whether nothing of it is finer than [`RESOLUTION`].
pub fn is_exact(value: Duration) -> bool {
    Duration::from_millis(millis(value)) == value
}

/// For the wire. Saturates after half a thousand million years.
pub fn millis(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_understood() {
        let known = [("0s", 0), ("500ms", 500), ("90s", 90_000), ("2m", 120_000), ("3h", 10_800_000)];
        for (text, ms) in known {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("30d"), Some(Duration::from_secs(30 * 24 * 3600)));
        for wrong in ["", "5", "s", "5 s", "-1s", "1.5s", "1h30m", "1w", "18446744073709551615d", "5S", "+5s"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(show(Duration::from_secs(86_400)), "1d");
        assert_eq!(show(Duration::from_secs(90)), "90s");
        assert_eq!(show(Duration::from_secs(120)), "2m");
        assert_eq!(show(Duration::from_nanos(1)), "0s");
        assert!(!is_exact(Duration::from_nanos(1_000_001)));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(ms in 0_u64..1 << 50) {
            prop_assert_eq!(parse(&show(Duration::from_millis(ms))), Some(Duration::from_millis(ms)));
        }
    }
}
