//! Which traffic counter belongs to which pod or peer: the same for as long as it is configured.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// More names than slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{wanted} of them, but there is room for {capacity}")]
pub struct SlotsError {
    /// How many names there are.
    pub wanted: usize,
    /// How many slots.
    pub capacity: u32,
}

/// Slots by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    by_name: BTreeMap<String, u32>,
}

impl Slots {
    /// What an earlier loader had assigned. Of two names with one slot, the first keeps it.
    pub fn remembered(slots: impl IntoIterator<Item = (String, u32)>) -> Self {
        let mut taken = BTreeSet::new();
        Self { by_name: slots.into_iter().filter(|(_, slot)| taken.insert(*slot)).collect() }
    }

    /// The slot of `name`; the first one for a name that was never assigned one, which doesn't occur.
    #[must_use]
    pub fn get(&self, name: &str) -> u32 {
        self.by_name.get(name).copied().unwrap_or_default()
    }

    /// Gives each of `names` a slot below `capacity`, the one it has if it has one, and forgets all others. Returns the
    /// slots that now belong to somebody new: what they have counted is not his. A slot that was just freed is taken
    /// last, since packets may still be on their way to it.
    pub fn assign<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str> + Clone,
        capacity: u32,
    ) -> Result<Vec<u32>, SlotsError> {
        let wanted = names.clone().count();
        if wanted > usize::try_from(capacity).unwrap_or(usize::MAX) {
            return Err(SlotsError { wanted, capacity });
        }
        let kept: BTreeMap<String, u32> = names
            .clone()
            .filter_map(|name| Some((name.to_owned(), *self.by_name.get(name)?)))
            .filter(|(_, slot)| *slot < capacity)
            .collect();
        let in_use: BTreeSet<u32> = kept.values().copied().collect();
        let before: BTreeSet<u32> = self.by_name.values().copied().collect();
        let free = |slot: &u32| !in_use.contains(slot);
        let unused = (0..capacity).filter(free).filter(|slot| !before.contains(slot));
        let freed = (0..capacity).filter(free).filter(|slot| before.contains(slot));
        let newcomers = names.filter(|name| !kept.contains_key(*name));
        let given: Vec<(String, u32)> = newcomers.map(str::to_owned).zip(unused.chain(freed)).collect();
        let fresh = given.iter().map(|(_, slot)| *slot).collect();
        self.by_name = kept.into_iter().chain(given).collect();
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot_and_a_newcomer_avoids_a_freed_one() {
        let mut slots = Slots::default();
        assert_eq!(slots.assign(["a", "b", "c"].into_iter(), 4), Ok(vec![0, 1, 2]));
        assert_eq!(slots.assign(["a", "c", "d"].into_iter(), 4), Ok(vec![3]));
        assert_eq!((slots.get("a"), slots.get("c"), slots.get("d")), (0, 2, 3));
        assert_eq!(slots.assign(["a", "c", "d", "e"].into_iter(), 4), Ok(vec![1]));
    }

    #[test]
    fn no_room_is_an_error_and_changes_nothing() {
        let mut slots = Slots::default();
        slots.assign(["a"].into_iter(), 1).unwrap();
        let before = slots.clone();
        assert_eq!(slots.assign(["a", "b"].into_iter(), 1), Err(SlotsError { wanted: 2, capacity: 1 }));
        assert_eq!(slots, before);
    }

    #[test]
    fn what_is_remembered_wrongly_is_not_shared() {
        let mut slots = Slots::remembered([("a".to_owned(), 5), ("b".to_owned(), 5), ("c".to_owned(), 99)]);
        slots.assign(["a", "b", "c"].into_iter(), 8).unwrap();
        let all = BTreeSet::from([slots.get("a"), slots.get("b"), slots.get("c")]);
        assert_eq!((slots.get("a"), all.len()), (5, 3));
        assert!(all.iter().all(|slot| *slot < 8));
    }
}
