//! [`MapOps`] of a longest-prefix match in the kernel.

use std::{collections::BTreeMap, io};

use aya::{
    Pod,
    maps::{LpmTrie, MapData, lpm_trie::Key},
};

use super::hash_map::{errno, gone_is_good};
use crate::sync::{MapOps, Prefix};

/// A longest-prefix match, with the name and the size that it has.
pub(super) struct Lpm<const N: usize, V> {
    pub(super) name: &'static str,
    pub(super) capacity: u32,
    pub(super) map: LpmTrie<MapData, [u8; N], V>,
}

impl<const N: usize, V: Pod> MapOps<Prefix<N>, V> for Lpm<N, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn list(&self) -> io::Result<BTreeMap<Prefix<N>, V>> {
        let entry = |entry: Result<(Key<[u8; N]>, V), _>| {
            entry.map(|(key, value)| (Prefix { len: key.prefix_len(), data: key.data() }, value))
        };
        self.map.iter().map(entry).collect::<Result<_, _>>().map_err(errno)
    }

    fn insert(&mut self, key: &Prefix<N>, value: &V) -> io::Result<()> {
        self.map.insert(&kernel_key(key), value, 0).map_err(errno)
    }

    fn remove(&mut self, key: &Prefix<N>) -> io::Result<()> {
        gone_is_good(self.map.remove(&kernel_key(key)))
    }
}

fn kernel_key<const N: usize>(key: &Prefix<N>) -> Key<[u8; N]> {
    Key::new(key.len, key.data)
}
