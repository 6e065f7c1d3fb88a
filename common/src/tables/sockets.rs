//! What the decisions about sockets ask.

use super::Services;
use crate::{
    counters::Reason,
    maps::{Choice, Resolved, SocketKey},
    node::Node,
};

/// Sockets, and what is remembered of them.
pub trait Sockets: Services {
    /// The facts of this node.
    fn node(&self) -> &'static Node;

    /// A [`namespace_kind`](crate::maps::namespace_kind); none if the network namespace is no matter of this node's.
    fn namespace(&self, cookie: u64) -> Option<u32>;

    /// What a socket has called by a backend's address.
    fn resolved(&self, key: &SocketKey) -> Option<Resolved>;

    /// Remembers it. A full table forgets another socket.
    fn remember(&mut self, key: &SocketKey, resolved: Resolved);

    /// Forgets it.
    fn forget(&mut self, key: &SocketKey);

    /// Whom a socket that sends to a frontend without being connected has got.
    fn chosen(&self, key: &SocketKey) -> Option<Choice>;

    /// Remembers whom it gets. A full table forgets another socket.
    fn choose(&mut self, key: &SocketKey, choice: Choice);

    /// Counts a call of a service.
    fn count(&mut self, reason: Reason);
}
