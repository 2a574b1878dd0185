//! What happened, line by line: two runs of a seed must agree in every byte.

use std::fmt::{self, Write};

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A trace: always its hash, its text only when asked for.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    line: String,
    text: Option<String>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep_text: bool) -> Self {
        Self { hash: OFFSET, lines: 0, line: String::new(), text: keep_text.then(String::new) }
    }

    /// At a true time in nanoseconds, `what` happened.
    pub fn note(&mut self, at_ns: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{:>5}.{:06} {what}", at_ns / 1_000_000, at_ns % 1_000_000)
            .expect("a string takes everything");
        // FNV-1a: the same on every platform and in every version of Rust.
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        self.lines += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    /// The hash of every line.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The text, if it was kept.
    pub fn take_text(&mut self) -> String {
        self.text.take().unwrap_or_default()
    }
}
