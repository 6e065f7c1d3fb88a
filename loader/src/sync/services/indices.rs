//! Which elements of an array, or which numbers, are nobody's.

use std::{
    collections::{HashSet, VecDeque},
    time::Instant,
};

use super::ranges::QUARANTINE;

/// Free indices; the lowest come first until some have been given back.
#[derive(Debug)]
pub(super) struct Indices {
    /// From here on nobody has had one.
    next: u32,
    end: u32,
    /// Below `next`, and free.
    free: Vec<u32>,
    /// Given back, and when: oldest first.
    quarantine: VecDeque<(Instant, u32)>,
}

impl Indices {
    /// Of `start..end`, all that are not among `taken`, which are of them.
    pub(super) fn new(start: u32, end: u32, taken: &HashSet<u32>) -> Self {
        let next = taken.iter().max().map_or(start, |last| last + 1);
        let free = (start..next).rev().filter(|index| !taken.contains(index)).collect();
        Self { next, end, free, quarantine: VecDeque::new() }
    }

    /// One that is free.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        while let Some((since, index)) = self.quarantine.front().copied() {
            if now.saturating_duration_since(since) < QUARANTINE {
                break;
            }
            self.quarantine.pop_front();
            self.free.push(index);
        }
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = self.next;
        (index < self.end).then(|| {
            self.next += 1;
            index
        })
    }

    /// Takes one back that packets may still refer to.
    pub(super) fn give_back(&mut self, index: u32, now: Instant) {
        self.quarantine.push_back((now, index));
    }

    /// Takes one back that nobody has ever referred to.
    pub(super) fn restore(&mut self, index: u32) {
        self.free.push(index);
    }

    /// How many are free, those in quarantine among them.
    pub(super) fn free(&self) -> usize {
        let unused = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        unused.saturating_add(self.free.len() + self.quarantine.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_given_once_and_rests_before_it_is_given_again() {
        let now = Instant::now();
        let mut indices = Indices::new(1, 5, &HashSet::from([3]));
        assert_eq!([1, 2, 3].map(|_| indices.take(now)), [Some(1), Some(2), Some(4)]);
        assert_eq!(indices.take(now), None);
        indices.give_back(2, now);
        assert_eq!((indices.take(now), indices.free()), (None, 1));
        assert_eq!(indices.take(now + QUARANTINE), Some(2));
        indices.restore(2);
        assert_eq!(indices.take(now), Some(2));
    }
}
