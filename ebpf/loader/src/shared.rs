//! What one thread puts in place as a whole and others read.

use std::sync::{Arc, RwLock};

/// The current one of something.
pub(crate) struct Shared<T>(RwLock<Arc<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.0.read().expect("nobody panics with this lock").clone()
    }

    pub(crate) fn set(&self, value: T) {
        *self.0.write().expect("nobody panics with this lock") = Arc::new(value);
    }
}
