//! The statistics at the end of the verifier's log (level 4).

use anyhow::Context;
use serde::Serialize;

/// What the verifier says it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Statistics {
    /// Instructions it went through, on all paths.
    pub(crate) verified_instructions: u64,
    /// How many it allows.
    pub(crate) limit: u64,
    /// States it kept at most for one instruction.
    pub(crate) max_states_per_instruction: u64,
    /// States it kept in all.
    pub(crate) total_states: u64,
    /// States it kept at one time.
    pub(crate) peak_states: u64,
    /// Stack of the program and of each function that it calls, bytes.
    pub(crate) stack_bytes: Vec<u64>,
    /// Time it took.
    pub(crate) microseconds: u64,
}

pub(crate) fn parse(log: &str) -> anyhow::Result<Statistics> {
    let line = |key: &str| log.lines().rev().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
    let processed =
        line("processed ").with_context(|| format!("the verifier's log has no statistics: {log}"))?;
    let first = |text: &str| -> anyhow::Result<u64> {
        let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("{text:?} does not begin with a number"))
    };
    let after = |key: &str| {
        let (_, rest) = processed.split_once(key).with_context(|| format!("no {key:?} in {processed:?}"))?;
        first(rest)
    };
    let stack = line("stack depth ").context("the verifier's log names no stack depth")?;
    // Newer kernels tell the deepest sum behind the depths.
    let depths = stack.split_whitespace().next().unwrap_or_default();
    Ok(Statistics {
        verified_instructions: first(processed)?,
        limit: after("(limit ")?,
        max_states_per_instruction: after("max_states_per_insn ")?,
        total_states: after("total_states ")?,
        peak_states: after("peak_states ")?,
        stack_bytes: depths.split('+').map(first).collect::<anyhow::Result<_>>()?,
        microseconds: first(line("verification time ").context("the verifier's log names no time")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_read() {
        let log = "verification time 1234 usec\nstack depth 256+16+0\n\
            processed 5023 insns (limit 1000000) max_states_per_insn 4 total_states 210 peak_states 200 mark_read 12\n";
        let expected = Statistics {
            verified_instructions: 5023,
            limit: 1_000_000,
            max_states_per_instruction: 4,
            total_states: 210,
            peak_states: 200,
            stack_bytes: vec![256, 16, 0],
            microseconds: 1234,
        };
        assert_eq!(parse(log).unwrap(), expected);
        assert!(parse("nothing").is_err());
    }
}
