//! How far a run is: which part, which round, and how long it may still take.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use super::load::Window;

/// What a figure takes besides its window: sockets, threads, and the last of what was sent.
const BESIDES: Duration = Duration::from_millis(60);

/// Says something where it does not mix with what is printed for programs.
pub fn say(text: &str) {
    let _unheard = writeln!(io::stderr(), "{text}");
}

/// A part that is measured in rounds of equal steps.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    rounds: usize,
    steps: usize,
    done: usize,
    begin: Instant,
}

impl Progress {
    /// Says what begins: so many steps in each round, of so many figures each.
    pub fn begin(
        what: &'static str,
        (rounds, window): (usize, Window),
        steps: usize,
        figures: usize,
    ) -> Self {
        let all = u32::try_from(rounds * steps * figures).unwrap_or(u32::MAX);
        let expected = shown((window.whole() + BESIDES) * all);
        say(&format!("{what}: {rounds} rounds of {} figures, about {expected}", steps * figures));
        Self { what, rounds, steps: rounds * steps, done: 0, begin: Instant::now() }
    }

    /// Says what a step of a round gave, and how long the others may take.
    pub fn step(&mut self, round: usize, text: &str) {
        self.done += 1;
        let left = left(self.begin.elapsed(), self.done, self.steps);
        let Self { what, rounds, .. } = self;
        say(&format!("  {what}, round {}/{rounds}, {} left: {text}", round + 1, shown(left)));
    }
}

/// What the steps that are not done take if they take as long as those that are.
fn left(elapsed: Duration, done: usize, steps: usize) -> Duration {
    let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    elapsed / count(done.max(1)) * count(steps.saturating_sub(done))
}

/// A time that nobody wants to know more exactly.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64().round();
    if seconds < 100.0 { format!("{seconds} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        assert_eq!(left(Duration::from_secs(10), 2, 10), Duration::from_secs(40));
        assert_eq!(left(Duration::from_secs(10), 10, 10), Duration::ZERO);
    }

    #[test]
    fn times_are_rounded() {
        assert_eq!(shown(Duration::from_millis(7400)), "7 s");
        assert_eq!(shown(Duration::from_secs(200)), "3 min");
    }
}
