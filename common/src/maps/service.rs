//! Services: addresses that stand for pods.
//!
//! `frontends` says which service an address and port is, `services` which backends that has, `maglev` in what order, and
//! `backends` who they are. A service changes by writing its new order into free elements of `maglev` and then one word of
//! [`Service`], which a packet reads at once: it sees the old backends or the new ones.

use bytemuck::{Pod, Zeroable};

/// Key of `frontends`: where a service is called.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FrontendKey {
    /// Address; IPv4 in the first four bytes, the rest zero.
    pub address: [u8; 16],
    /// Port, network byte order; zero for the address as such.
    pub port: [u8; 2],
    /// IP protocol number; zero for the address as such.
    pub protocol: u8,
    /// Family of `address`: 4 or 6.
    pub family: u8,
    /// One of [`scope`].
    pub scope: u32,
}

/// Values of [`FrontendKey::scope`]: for whom it is.
pub mod scope {
    /// For everyone who calls.
    pub const CALLED: u32 = 0;
    /// For packets that another node was called with, and has handed on to a backend of this one as they came.
    pub const HANDED_ON: u32 = 1;
}

/// Value of `frontends`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Frontend {
    /// Index into `services`; [`Frontend::ADDRESS`] under a key without port and protocol.
    pub service: u32,
}

impl Frontend {
    /// The address belongs to services: a port of it that has no frontend is nobody's.
    pub const ADDRESS: u32 = u32::MAX;
}

/// Element of `services`: one port of a service, of one family, as one kind of frontend exposes it.
///
/// The array is shared memory with the loader. Each field is written by one store, and a program loads it at once.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// A [`Selection`]: the backends for the pods of this node and the node itself.
    pub inside: u64,
    /// A [`Selection`]: the backends for whatever comes in by an uplink.
    pub outside: u64,
    /// Changes when the element is given to another service: connections of the former one are stale then.
    pub generation: u32,
    /// Number of the service port that this exposes: session affinity is kept per group and client.
    pub group: u32,
    /// Seconds for which a client keeps its backend after its last connection; zero: no affinity.
    pub affinity: u32,
    /// Bits of [`service_flag`].
    pub flags: u32,
}

/// Bits of [`Service::flags`].
pub mod service_flag {
    /// Backends are picked at random; else by Maglev, from the hash of the connection.
    pub const RANDOM: u32 = 1;
    /// Only clients in `source_ranges` may call.
    pub const SOURCE_RANGES: u32 = 2;
    /// `inside` has this node's backends only (internal traffic policy Local).
    pub const INSIDE_LOCAL: u32 = 4;
    /// `outside` has this node's backends only (external traffic policy Local).
    pub const OUTSIDE_LOCAL: u32 = 8;
    /// Whoever calls from outside and gets a backend of another node is handed on to that node as he is, and it answers him
    /// directly (direct server return).
    pub const DSR: u32 = 16;
}

/// Which elements of `maglev` are a service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// No backend at all: the client is told.
    Reject,
    /// No backend that the traffic policy lets this client have: dropped silently, as a load balancer in front may be about
    /// to find out.
    Drop,
    /// `count` elements, not zero, from `first` on.
    Table {
        /// Index of the first.
        first: u32,
        /// How many.
        count: u32,
    },
}

impl Selection {
    const DROP: u64 = 1;

    /// As a field of [`Service`].
    #[must_use]
    pub const fn pack(self) -> u64 {
        match self {
            Self::Reject => 0,
            Self::Drop => Self::DROP,
            Self::Table { first, count } => (count as u64) << 32 | first as u64,
        }
    }

    /// From a field of [`Service`].
    #[inline(always)]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        match ((word >> 32) as u32, word) {
            (0, Self::DROP) => Self::Drop,
            (0, _) => Self::Reject,
            (count, _) => Self::Table { first: word as u32, count },
        }
    }
}

/// Element of `backends`: one endpoint of one service port.
///
/// Shared memory with the loader. An element that is free is filled before `maglev` refers to it, and only
/// `state` and `generation` change while it does.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Backend {
    /// Address; IPv4 in the first four bytes, the rest zero.
    pub address: [u8; 16],
    /// Port, network byte order.
    pub port: [u8; 2],
    /// Family of `address`: 4 or 6; 0 if the element is free.
    pub family: u8,
    /// One of [`backend_state`].
    pub state: u8,
    /// Changes when the backend goes: its connections are stale then.
    pub generation: u32,
    /// [`Service::group`] of the service port that it belongs to.
    pub group: u32,
    /// Bits of [`backend_flag`].
    pub flags: u32,
}

/// Values of [`Backend::state`].
pub mod backend_state {
    /// Gone: its connections are cut.
    pub const GONE: u8 = 0;
    /// Takes new connections.
    pub const READY: u8 = 1;
    /// Serving and terminating: keeps its connections; new ones only where nothing is ready.
    pub const TERMINATING: u8 = 2;
    /// Not ready: keeps its TCP connections; a UDP client that keeps sending moves on.
    pub const NOT_READY: u8 = 3;
}

/// Bits of [`Backend::flags`]; none of them: a pod of another node, or another node.
pub mod backend_flag {
    /// On this node: a pod, or with `HOST` the node itself.
    pub const LOCAL: u32 = 1;
    /// With `LOCAL`: one of the node's own addresses.
    pub const HOST: u32 = 2;
    /// Outside the cluster: reached as anything outside is, from the node's own address.
    pub const EXTERNAL: u32 = 4;
}

/// Key of `affinity`: who calls what.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Client {
    /// The client's address; IPv4 in the first four bytes, the rest zero.
    pub address: [u8; 16],
    /// [`Service::group`].
    pub group: u32,
    /// Family of `address`: 4 or 6.
    pub family: u32,
}

/// Value of `affinity`: whom it got.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Affinity {
    /// Index into `backends`.
    pub backend: u32,
    /// [`Backend::generation`] then.
    pub generation: u32,
    /// When it last called, in [ticks](super::connection::TICK_NS).
    pub seen: u32,
    /// Zero.
    pub reserved: u32,
}

/// Key data of `source_ranges`: a prefix counts the 32 bits of the service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceRange {
    /// Index into `services`, in network byte order, as prefix matching needs.
    pub service: [u8; 4],
    /// Client address; IPv4 in the first four bytes, the rest zero (a service is of one family).
    pub address: [u8; 16],
}

#[cfg(feature = "user")]
mod user {
    use super::{Affinity, Backend, Client, Frontend, FrontendKey, Service, SourceRange};

    // SAFETY: each is `repr(C)` without padding and valid for any bits, which `bytemuck::Pod` has checked.
    unsafe impl aya::Pod for Affinity {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Backend {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Client {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Frontend {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FrontendKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Service {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SourceRange {}
}

const _: () = {
    assert!(size_of::<FrontendKey>() == 24);
    assert!(size_of::<Service>() == 32);
    assert!(size_of::<Backend>() == 32);
    assert!(size_of::<Client>() == 24);
    assert!(size_of::<SourceRange>() == 20);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_one_word() {
        for selection in [
            Selection::Reject,
            Selection::Drop,
            Selection::Table { first: 0, count: 1 },
            Selection::Table { first: 1, count: 1 },
            Selection::Table { first: u32::MAX, count: u32::MAX },
        ] {
            assert_eq!(Selection::unpack(selection.pack()), selection);
        }
        assert_eq!(Selection::unpack(Service::default().inside), Selection::Reject);
    }
}
