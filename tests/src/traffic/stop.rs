//! The word by which a thread of a test is told to end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Says the word when it goes, so that a test that fails leaves no thread at work.
#[derive(Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What the thread looks at: whether it is to end.
    pub(super) fn word(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
