//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long a condition that is expected to come true may take, on a machine with other work to do.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Polls until `poll` has an answer; after [`PATIENCE`] fails with `what` and the last error.
pub fn until<T>(what: &str, poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, poll)
}

/// As [`until`], with a deadline of its own.
pub fn until_within<T>(
    patience: Duration,
    what: &str,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let last = match poll() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => String::new(),
            Err(error) => format!(": {error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("{what}: not within {patience:?}{last}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
