//! Sockets in memory.

use std::collections::HashMap;

use super::Memory;
use crate::{
    counters::Reason,
    maps::{Choice, Resolved, SocketKey},
    node::Node,
    tables::Sockets,
};

/// What the maps of sockets hold.
#[derive(Clone, Debug, Default)]
pub struct SocketTables {
    /// Kinds of network namespaces, by their cookies.
    pub namespaces: HashMap<u64, u32>,
    /// What was called, by socket and backend.
    pub sockets: HashMap<SocketKey, Resolved>,
    /// Who was chosen, by socket and frontend.
    pub choices: HashMap<SocketKey, Choice>,
}

impl Sockets for Memory {
    fn node(&self) -> &'static Node {
        self.node
    }

    fn namespace(&self, cookie: u64) -> Option<u32> {
        self.resolved.namespaces.get(&cookie).copied()
    }

    fn resolved(&self, key: &SocketKey) -> Option<Resolved> {
        self.resolved.sockets.get(key).copied()
    }

    fn remember(&mut self, key: &SocketKey, resolved: Resolved) {
        self.resolved.sockets.insert(*key, resolved);
    }

    fn forget(&mut self, key: &SocketKey) {
        self.resolved.sockets.remove(key);
    }

    fn chosen(&self, key: &SocketKey) -> Option<Choice> {
        self.resolved.choices.get(key).copied()
    }

    fn choose(&mut self, key: &SocketKey, choice: Choice) {
        self.resolved.choices.insert(*key, choice);
    }

    fn count(&mut self, reason: Reason) {
        self.counts.push((reason, 0));
    }
}
