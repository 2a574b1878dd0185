//! IPv4 options (RFC 791, 3.1), one step at a time.
//!
//! They stay as they are: no time is stamped and no route recorded here, as by most routers. A source route is
//! refused (RFC 7126, 4.3 and 4.4): its packet's destination is not the last one.

/// End of the list.
const END: u8 = 0;
/// Nothing, one byte long.
const NOTHING: u8 = 1;
/// Loose source route.
const LOOSE_ROUTE: u8 = 131;
/// Strict source route.
const STRICT_ROUTE: u8 = 137;

/// The most options that a header can hold.
pub const MAX_STEPS: u32 = 40;

/// What an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No more follow.
    End,
    /// One of this length.
    Skip(u32),
    /// The packet must not be passed on: a source route, or an option without length.
    Refused,
}

/// What the option of this type, whose second byte says its length, is.
#[inline(always)]
pub const fn step(kind: u8, length: u8) -> Step {
    match kind {
        END => Step::End,
        NOTHING => Step::Skip(1),
        LOOSE_ROUTE | STRICT_ROUTE => Step::Refused,
        _ if length < 2 => Step::Refused,
        _ => Step::Skip(length as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_skipped_and_source_routes_refused() {
        for (kind, length, expected) in [
            (0, 9, Step::End),
            (1, 0, Step::Skip(1)),
            // Record route, timestamp, router alert.
            (7, 39, Step::Skip(39)),
            (68, 12, Step::Skip(12)),
            (148, 4, Step::Skip(4)),
            (131, 7, Step::Refused),
            (137, 7, Step::Refused),
            (7, 1, Step::Refused),
            (148, 0, Step::Refused),
        ] {
            assert_eq!(step(kind, length), expected, "{kind} {length}");
        }
    }
}
