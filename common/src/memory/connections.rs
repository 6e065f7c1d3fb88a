//! Connections in memory.

use core::{fmt, hash::Hash, ptr::NonNull};
use std::{
    boxed::Box,
    collections::{BTreeMap, HashMap},
    vec::Vec,
};

use super::Memory;
use crate::{
    family::{Family, V4, V6},
    maps::{Connection, FlowSet, Staged, Tuple},
    tables::{Connections, Entry, NotMade},
};

/// The entries of one family. One that is removed stays where it is, as in the kernel for as long as a program runs: here for good.
pub struct ConnectionTable<A> {
    entries: HashMap<Tuple<A>, NonNull<Connection<A>>>,
    workspace: NonNull<Staged<A>>,
    flows: HashMap<u32, NonNull<FlowSet<A>>>,
    /// How many entries there may be.
    pub capacity: usize,
}

impl<A: Default + Copy> Default for ConnectionTable<A> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            workspace: NonNull::from(Box::leak(Box::default())),
            flows: HashMap::new(),
            capacity: usize::MAX,
        }
    }
}

impl<A: Copy + Eq + Hash + Ord> ConnectionTable<A> {
    /// All entries, by key.
    #[must_use]
    pub fn entries(&self) -> Vec<(Tuple<A>, Connection<A>)> {
        // SAFETY: made by `insert` of a box that is never freed; nobody else has it while this is borrowed.
        let mut all: Vec<_> =
            self.entries.iter().map(|(key, place)| (*key, unsafe { place.read() })).collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }

    /// The entry with that key.
    #[must_use]
    pub fn get(&self, key: &Tuple<A>) -> Option<Connection<A>> {
        // SAFETY: as above.
        self.entries.get(key).map(|place| unsafe { place.read() })
    }

    /// What is remembered of flows, by index.
    #[must_use]
    pub fn flows(&self) -> BTreeMap<u32, FlowSet<A>> {
        // SAFETY: as above.
        self.flows.iter().map(|(index, place)| (*index, unsafe { place.read() })).collect()
    }

    /// Remembers flows.
    pub fn remember(&mut self, index: u32, flows: FlowSet<A>) {
        self.flows.insert(index, NonNull::from(Box::leak(Box::new(flows))));
    }

    /// Makes an entry, or replaces one.
    pub fn insert(&mut self, key: Tuple<A>, connection: Connection<A>) {
        self.entries.insert(key, NonNull::from(Box::leak(Box::new(connection))));
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &Tuple<A>) {
        self.entries.remove(key);
    }
}

impl<A: fmt::Debug + Copy + Eq + Hash + Ord> fmt::Debug for ConnectionTable<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries()).finish()
    }
}

/// Implements the table of one family.
macro_rules! connections {
    ($family:ty, $table:ident) => {
        impl Connections<$family> for Memory {
            fn connection(
                &self,
                key: &Tuple<<$family as Family>::Addr>,
            ) -> Option<Entry<<$family as Family>::Addr>> {
                // SAFETY: made of a box that is never freed.
                self.$table.entries.get(key).map(|place| unsafe { Entry::new(*place) })
            }

            unsafe fn workspace(&mut self) -> Option<&'static mut Staged<<$family as Family>::Addr>> {
                // SAFETY: made of a box that is never freed, and nobody else has it, as the caller knows.
                Some(unsafe { self.$table.workspace.as_mut() })
            }

            unsafe fn flows(
                &mut self,
                index: u32,
            ) -> Option<&'static mut FlowSet<<$family as Family>::Addr>> {
                if index >= self.node.flow_sets {
                    return None;
                }
                let flows = &mut self.$table.flows;
                let flows = flows.entry(index).or_insert_with(|| NonNull::from(Box::leak(Box::default())));
                // SAFETY: as above.
                Some(unsafe { flows.as_mut() })
            }

            fn insert(
                &mut self,
                key: &Tuple<<$family as Family>::Addr>,
                connection: &Connection<<$family as Family>::Addr>,
                replace: bool,
            ) -> Result<(), NotMade> {
                let table = &mut self.$table;
                match table.entries.contains_key(key) {
                    true if !replace => return Err(NotMade::Exists),
                    false if table.entries.len() >= table.capacity => return Err(NotMade::Full),
                    _ => {}
                }
                table.insert(*key, *connection);
                Ok(())
            }

            fn forget(&mut self, key: &Tuple<<$family as Family>::Addr>) {
                self.$table.remove(key);
            }

            fn has_socket(&self, tuple: &Tuple<<$family as Family>::Addr>) -> bool {
                self.sockets.contains(bytemuck::bytes_of(tuple))
            }
        }
    };
}

connections!(V4, conntrack4);
connections!(V6, conntrack6);
