//! Sizes of the maps.

use common::maps::capacity;
use serde::Serialize;

/// Sizes of the maps, in entries; see [`common::maps::capacity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacities {
    /// Local pods.
    pub pods: u32,
    /// Peers.
    pub peers: u32,
    /// Prefixes, per family.
    pub routes: u32,
    /// Prefixes that pods may send from, per family.
    pub sources: u32,
    /// Exposures of service ports.
    pub services: u32,
    /// Addresses and ports at which services are called, and their addresses as such.
    pub frontends: u32,
    /// Endpoints of service ports.
    pub backends: u32,
    /// Elements of the services' tables.
    pub maglev: u32,
    /// Prefixes of clients, over all services.
    pub source_ranges: u32,
    /// Entries of connections, per family; a connection has two.
    pub conntrack: u32,
    /// Clients that keep their backend.
    pub affinity: u32,
    /// Cut packets whose ports are known.
    pub fragments: u32,
    /// Sockets that are known to have been given a backend.
    pub sockets: u32,
    /// Translated flows that each CPU remembers, per family.
    pub flows: u32,
}

impl Default for Capacities {
    fn default() -> Self {
        Self {
            pods: capacity::PODS,
            peers: capacity::PEERS,
            routes: capacity::ROUTES,
            sources: capacity::SOURCES,
            services: capacity::SERVICES,
            frontends: capacity::FRONTENDS,
            backends: capacity::BACKENDS,
            maglev: capacity::MAGLEV,
            source_ranges: capacity::SOURCE_RANGES,
            conntrack: capacity::CONNTRACK,
            affinity: capacity::AFFINITY,
            fragments: capacity::FRAGMENTS,
            sockets: capacity::SOCKETS,
            flows: capacity::FLOWS,
        }
    }
}
