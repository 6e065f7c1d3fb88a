//! Which elements of `maglev` are whose.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// For how long what was given back is not given to anybody else: a packet that has read the old selection is done by then.
pub(super) const QUARANTINE: Duration = Duration::from_secs(1);

/// Neighbouring elements, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Range {
    /// Index of the first.
    pub(super) first: u32,
    /// How many.
    pub(super) count: u32,
}

/// The elements that are nobody's.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Lengths by first element; no two of them adjoin.
    free: BTreeMap<u32, u32>,
    /// Given back, and when: oldest first.
    quarantine: VecDeque<(Instant, Range)>,
}

impl Ranges {
    /// All elements of an array but those in `taken`. Of ranges that overlap, each element counts once.
    pub(super) fn new(capacity: u32, mut taken: Vec<Range>) -> Self {
        taken.sort_unstable();
        let mut free = BTreeMap::new();
        let mut next = 0;
        for Range { first, count } in taken {
            let first = first.min(capacity);
            if first > next {
                free.insert(next, first - next);
            }
            next = next.max(first.saturating_add(count).min(capacity));
        }
        if capacity > next {
            free.insert(next, capacity - next);
        }
        Self { free, quarantine: VecDeque::new() }
    }

    /// The smallest free range that has room for `count` elements: its first ones.
    pub(super) fn take(&mut self, count: u32, now: Instant) -> Option<Range> {
        self.release(now);
        let fits = self.free.iter().filter(|(_, length)| **length >= count);
        let (first, length) =
            fits.min_by_key(|(_, length)| **length).map(|(first, length)| (*first, *length))?;
        self.free.remove(&first);
        if length > count {
            self.free.insert(first + count, length - count);
        }
        Some(Range { first, count })
    }

    /// Takes a range back that packets may still be reading.
    pub(super) fn give_back(&mut self, range: Range, now: Instant) {
        self.quarantine.push_back((now, range));
    }

    /// Takes a range back that nobody has ever read.
    pub(super) fn restore(&mut self, range: Range) {
        let Range { mut first, mut count } = range;
        if let Some((before, length)) =
            self.free.range(..first).next_back().map(|(first, length)| (*first, *length))
            && before + length == first
        {
            self.free.remove(&before);
            first = before;
            count += length;
        }
        if let Some(length) = self.free.remove(&(first + count)) {
            count += length;
        }
        self.free.insert(first, count);
    }

    /// How many elements are free, those in quarantine among them.
    pub(super) fn free(&self) -> u64 {
        let quarantine = self.quarantine.iter().map(|(_, range)| range.count);
        self.free.values().copied().chain(quarantine).map(u64::from).sum()
    }

    fn release(&mut self, now: Instant) {
        while let Some((since, range)) = self.quarantine.front().copied() {
            if now.saturating_duration_since(since) < QUARANTINE {
                break;
            }
            self.quarantine.pop_front();
            self.restore(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, count: u32) -> Range {
        Range { first, count }
    }

    #[test]
    fn the_best_fit_is_taken_and_neighbours_join() {
        let now = Instant::now();
        let mut ranges = Ranges::new(100, vec![range(10, 10), range(30, 10)]);
        assert_eq!(ranges.take(10, now), Some(range(0, 10)), "exactly as long");
        assert_eq!(ranges.take(5, now), Some(range(20, 5)));
        assert_eq!(ranges.take(61, now), None, "longer than any");
        ranges.restore(range(0, 10));
        ranges.restore(range(10, 10));
        ranges.restore(range(20, 5));
        assert_eq!(ranges.take(30, now), Some(range(0, 30)), "in one piece again");
    }

    #[test]
    fn what_is_given_back_rests() {
        let now = Instant::now();
        let mut ranges = Ranges::new(4, Vec::new());
        let whole = ranges.take(4, now).unwrap();
        ranges.give_back(whole, now);
        assert_eq!((ranges.take(1, now), ranges.free()), (None, 4));
        assert_eq!(ranges.take(4, now + QUARANTINE), Some(whole));
    }

    #[test]
    fn overlapping_ranges_of_an_earlier_loader_do_no_harm() {
        let ranges = Ranges::new(10, vec![range(2, 4), range(3, 2), range(8, 100)]);
        assert_eq!(ranges.free, BTreeMap::from([(0, 2), (6, 2)]));
    }
}
