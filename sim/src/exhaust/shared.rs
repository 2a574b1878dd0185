//! A part of a state that many states share: copied when it changes, and digested once.

use std::cell::OnceCell;
use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

/// The part.
#[derive(Debug, Clone)]
pub(super) struct Shared<T> {
    part: Rc<T>,
    digest: OnceCell<u64>,
}

impl<T: Clone + Debug> Shared<T> {
    pub(super) fn new(part: T) -> Self {
        Self { part: Rc::new(part), digest: OnceCell::new() }
    }

    /// To change it for this state alone.
    pub(super) fn change(&mut self) -> &mut T {
        self.digest = OnceCell::new();
        Rc::make_mut(&mut self.part)
    }

    pub(super) fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| digest(&*self.part))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

/// Of everything that decides how it goes on. Counters count what was, and decide nothing.
pub(super) fn digest(part: &impl Debug) -> u64 {
    let mut text = String::new();
    write!(text, "{part:?}").expect("a string takes everything");
    let mut hasher = DefaultHasher::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("counters: Counters {") {
        rest[..at].hash(&mut hasher);
        // Counters hold maps of counts, but no other structures.
        let mut depth = 0;
        let end = rest[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            *c == '}' && depth == 0
        });
        rest = &rest[at + end.map_or(rest.len() - at, |(i, _)| i + 1)..];
    }
    rest.hash(&mut hasher);
    hasher.finish()
}
