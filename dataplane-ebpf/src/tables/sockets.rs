//! The maps of sockets.

use common::{
    counters::{Counter, Hook, HookCounters, Reason},
    maps::{Choice, Resolved, SocketKey},
    node::Node,
    tables::Sockets,
};

use super::{copied, services::ANY};
use crate::{
    atomic::increment,
    maps::{COUNTERS, NAMESPACES, SOCKET_CHOICES, SOCKETS, node},
    sock::Sock,
};

impl Sockets for Sock {
    #[inline(always)]
    fn node(&self) -> &'static Node {
        node()
    }

    #[inline(always)]
    fn namespace(&self, cookie: u64) -> Option<u32> {
        copied(NAMESPACES.get_ptr(cookie))
    }

    #[inline(always)]
    fn resolved(&self, key: &SocketKey) -> Option<Resolved> {
        copied(SOCKETS.get_ptr(key))
    }

    #[inline(always)]
    fn remember(&mut self, key: &SocketKey, resolved: Resolved) {
        // An LRU map has room; without it the socket's owner would be told the backend's address.
        let _ = SOCKETS.insert(key, resolved, ANY);
    }

    #[inline(always)]
    fn forget(&mut self, key: &SocketKey) {
        // As a rule there is nothing to forget.
        let _ = SOCKETS.remove(key);
    }

    #[inline(always)]
    fn chosen(&self, key: &SocketKey) -> Option<Choice> {
        copied(SOCKET_CHOICES.get_ptr(key))
    }

    #[inline(always)]
    fn choose(&mut self, key: &SocketKey, choice: Choice) {
        // As above; without it the next datagram may go to another backend.
        let _ = SOCKET_CHOICES.insert(key, choice, ANY);
    }

    #[inline(always)]
    fn count(&mut self, reason: Reason) {
        let Some(counters) = COUNTERS.get_ptr_mut(Hook::Sock as u32) else { return };
        let index = reason as usize;
        if index >= HookCounters::COUNT {
            return;
        }
        // SAFETY: `HookCounters` is an array of counters, which `common::counters` checks, and the index lies within. A program
        // of the cgroup may be interrupted by another one on its CPU, so the word is added to in one step.
        unsafe {
            increment(&raw mut (*counters.cast::<Counter>().add(index)).packets);
        }
    }
}
