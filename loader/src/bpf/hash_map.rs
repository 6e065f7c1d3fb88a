//! [`MapOps`] of a hash map in the kernel.

use std::{collections::BTreeMap, io};

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
};

use crate::sync::MapOps;

/// A hash map, with the name and the size that it has.
pub(super) struct Hash<K, V> {
    pub(super) name: &'static str,
    pub(super) capacity: u32,
    pub(super) map: HashMap<MapData, K, V>,
}

impl<K: Pod + Ord, V: Pod> MapOps<K, V> for Hash<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn list(&self) -> io::Result<BTreeMap<K, V>> {
        self.map.iter().collect::<Result<_, _>>().map_err(errno)
    }

    fn insert(&mut self, key: &K, value: &V) -> io::Result<()> {
        self.map.insert(key, value, 0).map_err(errno)
    }

    fn remove(&mut self, key: &K) -> io::Result<()> {
        gone_is_good(self.map.remove(key))
    }
}

/// The errno of a map's error.
#[must_use]
pub fn errno(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::IoError(error) => error,
        MapError::KeyNotFound | MapError::ElementNotFound => io::Error::from_raw_os_error(libc::ENOENT),
        other => io::Error::other(other),
    }
}

/// A removal of what is not there.
pub(super) fn gone_is_good(outcome: Result<(), MapError>) -> io::Result<()> {
    match outcome.map_err(errno) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
