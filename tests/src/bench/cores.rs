//! Which core a thread runs on.
//!
//! Bulk senders and receivers go to different cores, the two sides of a ping-pong to the same one: left to the scheduler
//! they move about, and figures of two runs differ by more than what is to be measured.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The cores that the benches use; the same one twice on a machine that has no second.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// Bulk senders, and both sides of a ping-pong.
    pub sender: usize,
    /// Bulk receivers.
    pub receiver: usize,
}

impl Cores {
    /// Everything on one core.
    #[must_use]
    pub const fn one(self) -> Self {
        Self { sender: self.sender, receiver: self.sender }
    }

    /// The first and the last core that this process may run on.
    pub fn find() -> Result<Self> {
        let cores = allowed()?;
        let sender = *cores.first().context("a process that may run on no core")?;
        Ok(Self { sender, receiver: cores.last().copied().unwrap_or(sender) })
    }
}

/// The cores that this process may run on.
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// Binds the calling thread, and those that it makes, to a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("sched_setaffinity to core {core}"))
}
