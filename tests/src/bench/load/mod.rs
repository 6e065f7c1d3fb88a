//! Traffic that loads a path, and how much of it gets through in a second.
//!
//! Nothing in here looks at what it receives: that the bytes are right is for the suites to prove.

mod batch;
mod frames;
mod path;
mod source_port;
mod tcp;
mod udp;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

pub use self::{
    frames::{Senders, of_many},
    path::{Called, Path},
    source_port::Sources,
    tcp::{connections, round_trips as tcp_round_trips, stream},
    udp::{Segments, bytes, packets, round_trips as udp_round_trips},
};
use super::cores::{self, Cores};

/// How often a background thread looks whether it is still needed, while nothing arrives.
const LOOK: Duration = Duration::from_millis(50);

/// How long a measurement takes.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    length: Duration,
}

impl Window {
    /// Counts for this long, after a warm-up.
    #[must_use]
    pub const fn new(length: Duration) -> Self {
        Self { length }
    }

    /// For how long it counts.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.length
    }

    /// How long a figure takes, its warm-up included.
    #[must_use]
    pub fn whole(self) -> Duration {
        self.length + self.warm_up()
    }

    /// Neighbours are resolved, windows open and caches fill before anything counts.
    fn warm_up(self) -> Duration {
        (self.length / 5).min(Duration::from_millis(300))
    }

    /// Repeats `step`, which says how much it has done; returns how much that is in a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
    fn rate(self, mut step: impl FnMut() -> Result<u64>) -> Result<f64> {
        let begin = Instant::now();
        while begin.elapsed() < self.warm_up() {
            step()?;
        }
        let begin = Instant::now();
        let mut done = 0;
        loop {
            done += step()?;
            let elapsed = begin.elapsed();
            if elapsed >= self.length {
                return Ok(done as f64 / elapsed.as_secs_f64());
            }
        }
    }
}

/// Whether the measuring side still needs its counterpart.
struct Needed<'a>(&'a AtomicBool);

impl Needed<'_> {
    fn still(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `counterpart` on one core for as long as `measure` runs on another (or the same), and returns what that measured.
fn beside(
    (counterpart_core, counterpart): (usize, impl FnOnce(&Needed<'_>) -> Result<()> + Send),
    (core, measure): (usize, impl FnOnce() -> Result<f64> + Send),
) -> Result<f64> {
    let needed = AtomicBool::new(true);
    thread::scope(|scope| {
        let counterpart = scope.spawn(|| {
            cores::pin(counterpart_core)?;
            counterpart(&Needed(&needed))
        });
        let measure = scope.spawn(move || {
            cores::pin(core)?;
            measure()
        });
        let measured = measure.join().map_err(|_panic| anyhow!("a measuring thread panicked"));
        needed.store(false, Ordering::Relaxed);
        // Where both fail, the counterpart's error is the cause.
        counterpart.join().map_err(|_panic| anyhow!("a thread beside a measuring one panicked"))??;
        measured?
    })
}
