//! How soon news is acted on: a pod can set its own device up and down as often as it likes, and every look takes a lock that all
//! network configuration waits for.

use std::time::{Duration, Instant};

/// Least time from a look that news has caused to the next one; it doubles with every look.
const LEAST: Duration = Duration::from_millis(200);
/// Up to this, and news that comes so long after the last look begins anew.
const LONGEST: Duration = Duration::from_secs(2);

/// When to look at everything because of news. Whatever news comes before that is covered by the same look.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When what has been heard is to be acted on.
    due: Option<Instant>,
    /// When news was last acted on.
    acted: Option<Instant>,
    /// How long after that it may be acted on again.
    pause: Duration,
}

impl Pace {
    /// There is news.
    pub(super) fn heard(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        let acted = self.acted.filter(|acted| now.saturating_duration_since(*acted) < LONGEST);
        let (due, pause) =
            acted.map_or((now, LEAST), |acted| (now.max(acted + self.pause), LONGEST.min(self.pause * 2)));
        self.due = Some(due);
        self.pause = pause;
    }

    /// How long until news is to be acted on; none if there is none.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// Whether there is news to be acted on now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.wait(now).is_some_and(|wait| wait.is_zero())
    }

    /// Everything has been looked at, because of the news.
    pub(super) fn acted(&mut self, now: Instant) {
        self.due = None;
        self.acted = Some(now);
    }

    /// Everything has been looked at, for another reason.
    pub(super) fn settle(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acts on news that comes every `period` milliseconds, and returns when it does, over ten seconds.
    fn acts(period: u64) -> Vec<u64> {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut acts = Vec::new();
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            if millisecond % period == 0 {
                pace.heard(now);
            }
            if pace.is_due(now) {
                acts.push(millisecond);
                pace.acted(now);
            }
        }
        acts
    }

    #[test]
    fn steady_news_is_acted_on_less_and_less() {
        assert_eq!(acts(1), [0, 200, 600, 1400, 3000, 5000, 7000, 9000]);
        // None is waited for that has come late enough, and yet it counts.
        assert_eq!(acts(250), [0, 250, 650, 1450, 3050, 5050, 7050, 9050]);
    }

    #[test]
    fn news_after_quiet_is_acted_on_at_once() {
        assert_eq!(acts(2_500), [0, 2_500, 5_000, 7_500]);
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |millisecond| start + Duration::from_millis(millisecond);
        for millisecond in [0, 200, 600] {
            pace.heard(at(millisecond));
            assert!(pace.is_due(at(millisecond)));
            pace.acted(at(millisecond));
        }
        pace.heard(at(2_600));
        assert!(pace.is_due(at(2_600)));
        pace.acted(at(2_600));
        pace.heard(at(2_601));
        assert_eq!(pace.wait(at(2_601)), Some(Duration::from_millis(199)), "from the beginning");
    }

    #[test]
    fn news_in_between_is_one_and_any_look_covers_it() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |millisecond| start + Duration::from_millis(millisecond);
        assert_eq!(pace.wait(at(0)), None);
        pace.heard(at(0));
        pace.acted(at(50));
        pace.heard(at(60));
        pace.heard(at(70));
        assert_eq!(pace.wait(at(70)), Some(Duration::from_millis(180)), "from the end of the look");
        pace.settle();
        assert_eq!((pace.wait(at(70)), pace.is_due(at(1_000))), (None, false));
    }
}
