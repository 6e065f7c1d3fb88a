//! Maps in memory, which log what is written to them.

use std::{cell::RefCell, collections::BTreeMap, io, mem, rc::Rc};

use super::{MapOps, Prefix, Tables};

/// What was done to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert(&'static str, Vec<u8>),
    Remove(&'static str, Vec<u8>),
}

impl Op {
    pub(super) fn map(&self) -> &'static str {
        let (Self::Insert(map, _) | Self::Remove(map, _)) = self;
        map
    }
}

/// What was done to all maps, in order.
#[derive(Clone, Default)]
pub(super) struct Log(Rc<RefCell<Vec<Op>>>);

impl Log {
    pub(super) fn take(&self) -> Vec<Op> {
        mem::take(&mut self.0.borrow_mut())
    }
}

/// A map.
pub(super) struct Memory<K, V> {
    name: &'static str,
    capacity: u32,
    entries: BTreeMap<K, V>,
    log: Log,
    refuses: Option<i32>,
}

impl<K, V> Memory<K, V> {
    fn new(name: &'static str, capacity: u32, log: &Log) -> Self {
        Self { name, capacity, entries: BTreeMap::new(), log: log.clone(), refuses: None }
    }

    /// One that takes no entry.
    pub(super) fn refusing(name: &'static str, errno: i32) -> Self {
        Self { refuses: Some(errno), ..Self::new(name, 8, &Log::default()) }
    }
}

/// What a key is on the log.
pub(super) trait Bytes {
    fn bytes(&self) -> Vec<u8>;
}

impl<const N: usize> Bytes for [u8; N] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl<const N: usize> Bytes for Prefix<N> {
    fn bytes(&self) -> Vec<u8> {
        self.data.to_vec()
    }
}

impl<K: Ord + Copy + Bytes, V: Copy> MapOps<K, V> for Memory<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn list(&self) -> io::Result<BTreeMap<K, V>> {
        Ok(self.entries.clone())
    }

    fn insert(&mut self, key: &K, value: &V) -> io::Result<()> {
        if let Some(errno) = self.refuses {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.entries.insert(*key, *value);
        assert!(self.entries.len() <= self.capacity as usize, "{} holds too much", self.name);
        self.log.0.borrow_mut().push(Op::Insert(self.name, key.bytes()));
        Ok(())
    }

    fn remove(&mut self, key: &K) -> io::Result<()> {
        self.entries.remove(key);
        self.log.0.borrow_mut().push(Op::Remove(self.name, key.bytes()));
        Ok(())
    }
}

/// Empty maps, each with room for `capacity` entries.
pub(super) fn tables(log: &Log, capacity: u32) -> Tables {
    Tables {
        pods4: Box::new(Memory::new("pods4", capacity, log)),
        pods6: Box::new(Memory::new("pods6", capacity, log)),
        routes4: Box::new(Memory::new("routes4", capacity, log)),
        routes6: Box::new(Memory::new("routes6", capacity, log)),
        sources4: Box::new(Memory::new("sources4", capacity, log)),
        sources6: Box::new(Memory::new("sources6", capacity, log)),
        vteps4: Box::new(Memory::new("vteps4", capacity, log)),
        vteps6: Box::new(Memory::new("vteps6", capacity, log)),
    }
}
