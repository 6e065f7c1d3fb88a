//! Writes the difference between what the maps hold and what they should hold.
//!
//! Only entries that differ are written. What is [added](add) comes before what is [removed](remove), with the change of the services
//! between them, which choose what is there; and within that the order is that in which a packet meets the maps backwards: by the
//! time a route says that a peer exists, everything else about it is there.

use std::{collections::BTreeMap, io};

use common::maps::{Allowed, Endpoint, Route, Vtep};
use thiserror::Error;

use super::{Contents, Prefix};

/// What is needed of a map.
pub trait MapOps<K, V> {
    /// Its name, see [`common::maps::name`].
    fn name(&self) -> &'static str;
    /// How many entries it has room for.
    fn capacity(&self) -> u32;
    /// All its entries.
    fn list(&self) -> io::Result<BTreeMap<K, V>>;
    /// Adds or replaces an entry.
    fn insert(&mut self, key: &K, value: &V) -> io::Result<()>;
    /// Removes an entry; one that is gone already is as good.
    fn remove(&mut self, key: &K) -> io::Result<()>;
}

/// Every map that the loader writes.
#[expect(missing_docs, reason = "each is named as the map, see `common::maps::name`")]
pub struct Tables {
    pub pods4: Box<dyn MapOps<[u8; 4], Endpoint>>,
    pub pods6: Box<dyn MapOps<[u8; 16], Endpoint>>,
    pub routes4: Box<dyn MapOps<Prefix<4>, Route>>,
    pub routes6: Box<dyn MapOps<Prefix<16>, Route>>,
    pub sources4: Box<dyn MapOps<Prefix<8>, Allowed>>,
    pub sources6: Box<dyn MapOps<Prefix<20>, Allowed>>,
    pub vteps4: Box<dyn MapOps<[u8; 4], Vtep>>,
    pub vteps6: Box<dyn MapOps<[u8; 16], Vtep>>,
}

/// A map could not be brought to what it should hold.
#[derive(Debug, Error)]
pub enum SyncError {
    /// It is too small, seen before anything was written.
    #[error("map {map} has room for {capacity} entries, {wanted} are needed: raise `{key}` in [maps]")]
    Full {
        /// Name of the map.
        map: &'static str,
        /// How many entries it takes.
        capacity: u32,
        /// How many it should have.
        wanted: usize,
        /// What to raise.
        key: &'static str,
    },
    /// The kernel refused.
    #[error("{call} on map {map}: {source}")]
    Refused {
        /// System call.
        call: &'static str,
        /// Name of the map.
        map: &'static str,
        /// The errno.
        source: io::Error,
    },
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries added or replaced.
    pub inserted: usize,
    /// Entries removed.
    pub removed: usize,
}

/// Adds what maps lack of `wanted`; writes nothing at all if one has no room for it. What is not wanted stays, but in a map that has
/// no room for both.
pub fn add(tables: &mut Tables, wanted: &Contents) -> Result<Written, SyncError> {
    check_room(tables, wanted)?;
    let mut written = Written::default();
    for step in &mut steps(tables, wanted)? {
        step.add(&mut written)?;
    }
    Ok(written)
}

/// Removes what is not `wanted`.
pub fn remove(tables: &mut Tables, wanted: &Contents) -> Result<Written, SyncError> {
    let mut written = Written::default();
    for step in steps(tables, wanted)?.iter_mut().rev() {
        step.remove(&mut written)?;
    }
    Ok(written)
}

fn steps<'a>(tables: &'a mut Tables, wanted: &Contents) -> Result<[Box<dyn Step + 'a>; 8], SyncError> {
    Ok([
        step(&mut *tables.sources4, &wanted.sources4)?,
        step(&mut *tables.sources6, &wanted.sources6)?,
        step(&mut *tables.pods4, &wanted.pods4)?,
        step(&mut *tables.pods6, &wanted.pods6)?,
        step(&mut *tables.vteps4, &wanted.vteps4)?,
        step(&mut *tables.vteps6, &wanted.vteps6)?,
        step(&mut *tables.routes4, &wanted.routes4)?,
        step(&mut *tables.routes6, &wanted.routes6)?,
    ])
}

/// Whether every map has room for `wanted`.
pub fn check_room(tables: &Tables, wanted: &Contents) -> Result<(), SyncError> {
    room(&*tables.sources4, &wanted.sources4)?;
    room(&*tables.sources6, &wanted.sources6)?;
    room(&*tables.pods4, &wanted.pods4)?;
    room(&*tables.pods6, &wanted.pods6)?;
    room(&*tables.vteps4, &wanted.vteps4)?;
    room(&*tables.vteps6, &wanted.vteps6)?;
    room(&*tables.routes4, &wanted.routes4)?;
    room(&*tables.routes6, &wanted.routes6)
}

fn room<K, V>(map: &dyn MapOps<K, V>, wanted: &BTreeMap<K, V>) -> Result<(), SyncError> {
    let (name, capacity, wanted) = (map.name(), map.capacity(), wanted.len());
    if wanted <= usize::try_from(capacity).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(SyncError::Full { map: name, capacity, wanted, key: capacity_key(name) })
}

/// The `[maps]` key that a map's size comes from.
#[must_use]
pub fn capacity_key(map: &str) -> &'static str {
    match map.trim_end_matches(['4', '6']) {
        "pods" | "pod_traffic" | "namespaces" => "pods",
        "sources" => "sources",
        "routes" => "routes",
        "services" => "services",
        "frontends" => "frontends",
        "backends" => "backends",
        "maglev" => "maglev",
        "source_ranges" => "source-ranges",
        "conntrack" => "conntrack",
        "affinity" => "affinity",
        "fragments" => "fragments",
        "sockets" | "socket_choices" => "sockets",
        _ => "peers",
    }
}

/// What is to be done to one map.
trait Step {
    fn add(&mut self, written: &mut Written) -> Result<(), SyncError>;
    fn remove(&mut self, written: &mut Written) -> Result<(), SyncError>;
}

struct Difference<'a, K, V> {
    map: &'a mut dyn MapOps<K, V>,
    /// Entries to be added or replaced.
    added: Vec<(K, V)>,
    /// Keys of entries to be removed.
    stale: Vec<K>,
    /// Entries that the map may hold beyond those that it holds now.
    room: usize,
}

fn step<'a, K, V>(
    map: &'a mut dyn MapOps<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<Box<dyn Step + 'a>, SyncError>
where
    K: Ord + Copy + 'a,
    V: PartialEq + Copy + 'a,
{
    let limit = usize::try_from(map.capacity()).unwrap_or(usize::MAX);
    let current = map.list().map_err(refused("bpf(BPF_MAP_LOOKUP_ELEM)", map.name()))?;
    let differs = |(key, value): &(&K, &V)| current.get(*key) != Some(*value);
    let added = wanted.iter().filter(differs).map(|(key, value)| (*key, *value)).collect();
    let stale = current.keys().filter(|key| !wanted.contains_key(*key)).copied().collect();
    Ok(Box::new(Difference { added, stale, room: limit.saturating_sub(current.len()), map }))
}

impl<K: Copy, V: Copy> Step for Difference<'_, K, V> {
    fn add(&mut self, written: &mut Written) -> Result<(), SyncError> {
        if self.added.len() > self.room {
            // Both at once don't fit: what goes has to go first.
            self.remove(written)?;
        }
        let name = self.map.name();
        for (key, value) in self.added.drain(..) {
            self.map.insert(&key, &value).map_err(refused("bpf(BPF_MAP_UPDATE_ELEM)", name))?;
            written.inserted += 1;
        }
        Ok(())
    }

    fn remove(&mut self, written: &mut Written) -> Result<(), SyncError> {
        let name = self.map.name();
        for key in self.stale.drain(..) {
            self.map.remove(&key).map_err(refused("bpf(BPF_MAP_DELETE_ELEM)", name))?;
            written.removed += 1;
        }
        Ok(())
    }
}

fn refused(call: &'static str, map: &'static str) -> impl Fn(io::Error) -> SyncError {
    move |source| SyncError::Refused { call, map, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::memory::{Log, Memory, Op, tables};

    fn apply(tables: &mut Tables, wanted: &Contents) -> Result<Written, SyncError> {
        let (added, removed) = (add(tables, wanted)?, remove(tables, wanted)?);
        Ok(Written { inserted: added.inserted + removed.inserted, removed: added.removed + removed.removed })
    }

    fn vtep(last: u8, peer: u32) -> ([u8; 4], Vtep) {
        ([10, 0, 0, last], Vtep { peer })
    }

    fn wanted(vteps: &[([u8; 4], Vtep)]) -> Contents {
        Contents { vteps4: vteps.iter().copied().collect(), ..Contents::default() }
    }

    #[test]
    fn only_what_differs_is_written_and_additions_come_first() {
        let log = Log::default();
        let mut tables = tables(&log, 8);
        apply(&mut tables, &wanted(&[vtep(1, 1), vtep(2, 2), vtep(3, 3)])).unwrap();
        log.take();
        let written = apply(&mut tables, &wanted(&[vtep(1, 1), vtep(3, 9), vtep(4, 4)])).unwrap();
        assert_eq!(written, Written { inserted: 2, removed: 1 });
        let insert = |key: [u8; 4]| Op::Insert("vteps4", key.to_vec());
        assert_eq!(
            log.take(),
            [insert([10, 0, 0, 3]), insert([10, 0, 0, 4]), Op::Remove("vteps4", vec![10, 0, 0, 2])]
        );
        assert_eq!(
            apply(&mut tables, &wanted(&[vtep(1, 1), vtep(3, 9), vtep(4, 4)])).unwrap(),
            Written::default()
        );
    }

    #[test]
    fn a_full_map_makes_room_first() {
        let log = Log::default();
        let mut tables = tables(&log, 2);
        apply(&mut tables, &wanted(&[vtep(1, 1), vtep(2, 2)])).unwrap();
        log.take();
        apply(&mut tables, &wanted(&[vtep(2, 2), vtep(3, 3)])).unwrap();
        assert!(matches!(log.take()[..], [Op::Remove(..), Op::Insert(..)]));
    }

    #[test]
    fn too_many_entries_are_refused_before_anything_is_written() {
        let log = Log::default();
        let mut tables = tables(&log, 2);
        let mut wanted = wanted(&[vtep(1, 1), vtep(2, 2), vtep(3, 3)]);
        wanted.sources4.insert(Prefix { len: 64, data: [0; 8] }, Allowed { slot: 0 });
        let error = apply(&mut tables, &wanted).unwrap_err().to_string();
        assert_eq!(error, "map vteps4 has room for 2 entries, 3 are needed: raise `peers` in [maps]");
        assert!(log.take().is_empty());
    }

    #[test]
    fn a_peer_is_complete_before_its_route_appears_and_until_its_route_is_gone() {
        let log = Log::default();
        let mut tables = tables(&log, 2);
        let mut both = wanted(&[vtep(1, 1)]);
        let route = Route { kind: 3, underlay_family: 4, peer: 1, ..Route::default() };
        both.routes4.insert(Prefix { len: 24, data: [10, 200, 1, 0] }, route);
        apply(&mut tables, &both).unwrap();
        apply(&mut tables, &Contents::default()).unwrap();
        let maps: Vec<_> = log.take().iter().map(Op::map).collect();
        assert_eq!(maps, ["vteps4", "routes4", "routes4", "vteps4"]);
    }

    #[test]
    fn a_refusal_names_the_call_and_the_map() {
        let log = Log::default();
        let mut tables = tables(&log, 2);
        tables.vteps4 = Box::new(Memory::refusing("vteps4", libc::ENOMEM));
        let error = apply(&mut tables, &wanted(&[vtep(1, 1)])).unwrap_err().to_string();
        assert!(error.starts_with("bpf(BPF_MAP_UPDATE_ELEM) on map vteps4: "), "{error}");
    }
}
