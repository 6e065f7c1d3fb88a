//! What the decisions ask about services.

use crate::{
    interest::Bit,
    maps::{
        Affinity, Backend, Client, FragmentKey, FragmentPorts, Frontend, FrontendKey, Service, SourceRange,
    },
};

/// Services and what goes with them.
pub trait Services {
    /// Whether that bit of the interest filter is set.
    fn interesting(&self, bit: Bit) -> bool;

    /// The service at that address and port, or that the address is services' at all.
    fn frontend(&self, key: &FrontendKey) -> Option<Frontend>;

    /// A service.
    fn service(&self, index: u32) -> Option<Service>;

    /// A service's [`generation`](Service::generation).
    fn service_generation(&self, index: u32) -> Option<u32>;

    /// An element of `maglev`: index into `backends`.
    fn choice(&self, index: u32) -> Option<u32>;

    /// A backend.
    fn backend(&self, index: u32) -> Option<Backend>;

    /// A backend's [`state`](Backend::state) and [`generation`](Backend::generation).
    fn health(&self, index: u32) -> Option<(u8, u32)>;

    /// Whether a client is in a service's source ranges.
    fn in_source_ranges(&self, client: &SourceRange) -> bool;

    /// Whom a client last got.
    fn affinity(&mut self, client: &Client) -> Option<&mut Affinity>;

    /// Remembers whom a client gets. A full table forgets another client.
    fn keep(&mut self, client: &Client, affinity: Affinity);

    /// What the first fragment of a packet said.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;

    /// Remembers what the first fragment of a packet says. A full table forgets another packet.
    fn cut(&mut self, key: &FragmentKey, ports: FragmentPorts);

    /// A random number.
    fn random(&self) -> u32;
}
