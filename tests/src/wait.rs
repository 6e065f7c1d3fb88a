//! Waiting for a condition, never for a time.

use std::{
    env,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How many times slower than usual this machine is said to be: `cargo xtask vm-test` says so of emulated ones.
const SLOWNESS: &str = "PODLANE_PATIENCE";

/// How many times slower than an ordinary machine this one is said to be.
#[must_use]
pub fn slowness() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| factor(env::var(SLOWNESS).ok().as_deref()))
}

/// How long something takes on this machine that takes so long on an ordinary one: for upper bounds of waiting, and for
/// the pauses of a load. What a test asserts about times stays as it is.
#[must_use]
pub fn scaled(usual: Duration) -> Duration {
    usual * slowness()
}

fn factor(said: Option<&str>) -> u32 {
    said.and_then(|said| said.parse().ok()).filter(|factor| (1..=1000).contains(factor)).unwrap_or(1)
}

/// How long a condition that is expected to come true may take, on a machine with other work to do.
///
/// Beside a busy process, a kernel's scheduler may forget one of its own threads for a while (commit b3d99f43c72b, "sched/fair: Fix
/// `zero_vruntime` tracking", mends such a fault). Where that is the one of RCU's grace periods, whatever waits for one (links and
/// programs that go, a file that is no longer watched, so a loader that ends) takes as long: 28 s were seen on 6.18.
#[must_use]
pub fn patience() -> Duration {
    scaled(Duration::from_secs(15)).max(Duration::from_mins(1))
}

/// Polls until `poll` has an answer; after [`patience`] fails with `what` and the last error.
pub fn until<T>(what: &str, poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll_until(patience(), what, poll)
}

/// As [`until`], for a condition that by itself takes as long as `usual` on an ordinary machine.
pub fn until_after<T>(usual: Duration, what: &str, poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll_until(scaled(usual) + patience(), what, poll)
}

fn poll_until<T>(patience: Duration, what: &str, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_as_slow_as_it_is_said_to_be() {
        assert_eq!([Some("10"), Some("1"), None].map(factor), [10, 1, 1]);
        assert_eq!([Some("0"), Some("fast"), Some("")].map(factor), [1, 1, 1]);
    }
}
