//! Keys and values of the BPF maps: the contract between the programs and user space.
//!
//! Addresses, ports and VNIs are in network byte order, as on the wire; everything else is in host byte order. No type
//! has implicit padding: the kernel compares keys byte by byte, and a value is copied out to user space whole.
//! `docs/maps.md` lists the maps themselves.

pub mod connection;
pub mod flow;
pub mod service;
pub mod socket;

use bytemuck::{Pod, Zeroable};

pub use self::{
    connection::{Connection, FragmentKey, FragmentPorts, Staged, Tuple, connection_flag},
    flow::{Flow, FlowSet, ToPeer, WAYS, flow_sets, outcome},
    service::{
        Affinity, Backend, Client, Frontend, FrontendKey, Selection, Service, SourceRange, backend_flag,
        backend_state, scope, service_flag,
    },
    socket::{Choice, Resolved, SocketKey, namespace_kind},
};

/// Names under which the maps are pinned and shown by `bpftool map`; at most 15 characters, the kernel's limit.
pub mod name {
    /// LRU hash, [`Client`](super::Client) to [`Affinity`](super::Affinity).
    pub const AFFINITY: &str = "affinity";
    /// Array, shared memory: index to [`Backend`](super::Backend).
    pub const BACKENDS: &str = "backends";
    /// Hash, IPv4 [`Tuple`](super::Tuple) to [`Connection`](super::Connection).
    pub const CONNTRACK4: &str = "conntrack4";
    /// Hash, IPv6 [`Tuple`](super::Tuple) to [`Connection`](super::Connection).
    pub const CONNTRACK6: &str = "conntrack6";
    /// Per-CPU array, [`Hook`](crate::counters::Hook) to [`HookCounters`](crate::counters::HookCounters).
    pub const COUNTERS: &str = "counters";
    /// Per-CPU hash, [`HelperError`](super::HelperError) to a `u64` count.
    pub const ERRORS: &str = "helper_errors";
    /// Array, shared memory: numbers that what is remembered of flows hangs on (see [`flow_cache`](crate::flow_cache)).
    pub const EPOCHS: &str = "epochs";
    /// Per-CPU array, hash of an IPv4 flow to [`FlowSet`](super::FlowSet).
    pub const FLOWS4: &str = "flows4";
    /// Per-CPU array, hash of an IPv6 flow to [`FlowSet`](super::FlowSet).
    pub const FLOWS6: &str = "flows6";
    /// LRU hash, [`FragmentKey`](super::FragmentKey) to [`FragmentPorts`](super::FragmentPorts).
    pub const FRAGMENTS: &str = "fragments";
    /// Hash, [`FrontendKey`](super::FrontendKey) to [`Frontend`](super::Frontend).
    pub const FRONTENDS: &str = "frontends";
    /// Array, shared memory: words of the [`interest`](crate::interest) filter.
    pub const INTEREST: &str = "interest";
    /// Array, shared memory: the services' [`Selection`](super::Selection)s, indices into `backends`.
    pub const MAGLEV: &str = "maglev";
    /// Per-CPU array, one [`Budget`](super::Budget): what is left of this CPU's allowance of ICMP errors.
    pub const ICMP_BUDGET: &str = "icmp_budget";
    /// Per-CPU array, a part of a peer's flows (see [`hops`](crate::hops)) to [`Hop`](super::Hop).
    pub const HOPS: &str = "hops";
    /// Per-CPU array, [`Endpoint::slot`](super::Endpoint) to [`Traffic`](super::Traffic).
    pub const POD_TRAFFIC: &str = "pod_traffic";
    /// Hash, cookie of a network namespace to a [`namespace_kind`](super::namespace_kind).
    pub const NAMESPACES: &str = "namespaces";
    /// Per-CPU array, [`Route::peer`](super::Route) to [`Traffic`](super::Traffic).
    pub const PEER_TRAFFIC: &str = "peer_traffic";
    /// Hash, IPv4 address of a local pod to [`Endpoint`](super::Endpoint).
    pub const PODS4: &str = "pods4";
    /// Hash, IPv6 address of a local pod to [`Endpoint`](super::Endpoint).
    pub const PODS6: &str = "pods6";
    /// Longest-prefix match, IPv4 destination to [`Route`](super::Route).
    pub const ROUTES4: &str = "routes4";
    /// Longest-prefix match, IPv6 destination to [`Route`](super::Route).
    pub const ROUTES6: &str = "routes6";
    /// Array, shared memory: index to [`Service`](super::Service).
    pub const SERVICES: &str = "services";
    /// LRU hash, [`SocketKey`](super::SocketKey) with a backend to [`Resolved`](super::Resolved).
    pub const SOCKETS: &str = "sockets";
    /// LRU hash, [`SocketKey`](super::SocketKey) with a frontend to [`Choice`](super::Choice).
    pub const SOCKET_CHOICES: &str = "socket_choices";
    /// Longest-prefix match, [`SourceRange`](super::SourceRange) to a `u32` that says nothing.
    pub const SOURCE_RANGES: &str = "source_ranges";
    /// Longest-prefix match, [`Source`](super::Source) with an IPv4 prefix that the pod may send from, to [`Allowed`](super::Allowed).
    pub const SOURCES4: &str = "sources4";
    /// As [`SOURCES4`], for IPv6.
    pub const SOURCES6: &str = "sources6";
    /// Per-CPU array, one IPv4 [`Staged`](super::Staged).
    pub const STAGED4: &str = "staged4";
    /// Per-CPU array, one IPv6 [`Staged`](super::Staged).
    pub const STAGED6: &str = "staged6";
    /// Program array: the program behind `from_xdp`, at zero.
    pub const TAIL_CALLS: &str = "tail_calls";
    /// Hash, underlay IPv4 address of a peer to [`Vtep`](super::Vtep).
    pub const VTEPS4: &str = "vteps4";
    /// Hash, underlay IPv6 address of a peer to [`Vtep`](super::Vtep).
    pub const VTEPS6: &str = "vteps6";

    /// Every map, in the order in which they are shown.
    pub const ALL: [&str; 33] = [
        AFFINITY,
        BACKENDS,
        CONNTRACK4,
        CONNTRACK6,
        COUNTERS,
        EPOCHS,
        FLOWS4,
        FLOWS6,
        ERRORS,
        FRAGMENTS,
        FRONTENDS,
        HOPS,
        ICMP_BUDGET,
        INTEREST,
        MAGLEV,
        NAMESPACES,
        POD_TRAFFIC,
        PEER_TRAFFIC,
        PODS4,
        PODS6,
        ROUTES4,
        ROUTES6,
        SERVICES,
        SOCKETS,
        SOCKET_CHOICES,
        SOURCES4,
        SOURCES6,
        SOURCE_RANGES,
        STAGED4,
        STAGED6,
        TAIL_CALLS,
        VTEPS4,
        VTEPS6,
    ];
}

/// How many entries each map holds unless the configuration says otherwise.
pub mod capacity {
    /// Local pods: addresses per family, and slots of `pod_traffic`. Kubernetes' own guidance is 110 pods a node.
    pub const PODS: u32 = 1024;
    /// Peers: underlay addresses per family, and slots of `peer_traffic`. Kubernetes supports 5,000 nodes.
    pub const PEERS: u32 = 8192;
    /// Prefixes per family: for each peer its pod CIDRs and its node addresses, and the node's own.
    pub const ROUTES: u32 = 32768;
    /// Prefixes, over all pods, that a pod may send from besides its own addresses.
    pub const SOURCES: u32 = 1024;
    /// Addresses and ports at which services are called, and their addresses as such.
    pub const FRONTENDS: u32 = 65536;
    /// Service ports, one per family and kind of frontend.
    pub const SERVICES: u32 = 32768;
    /// Endpoints of service ports.
    pub const BACKENDS: u32 = 131_072;
    /// Elements of `maglev`, over all services: a service has one if it has one backend, else 251 to 65,521 by their number.
    pub const MAGLEV: u32 = 1_048_576;
    /// Prefixes of clients, over all services.
    pub const SOURCE_RANGES: u32 = 8192;
    /// Entries per family; a connection has two.
    pub const CONNTRACK: u32 = 262_144;
    /// Clients that keep their backend.
    pub const AFFINITY: u32 = 65536;
    /// Cut packets whose ports are known.
    pub const FRAGMENTS: u32 = 8192;
    /// Sockets that are known to have been given a backend.
    pub const SOCKETS: u32 = 65536;
    /// The node's network namespace and those of its pods.
    pub const NAMESPACES: u32 = PODS + 1;
    /// Translated flows of a family that one CPU remembers.
    pub const FLOWS: u32 = 4096;
    /// Elements of `epochs`: a power of two.
    pub const EPOCHS: u32 = 256;
    /// Ways to peers that one CPU remembers: a power of two.
    pub const HOPS: u32 = 4096;
    /// Distinct (hook, helper, errno) that have failed.
    pub const ERRORS: u32 = 256;
}

/// A local pod, as found by one of its addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// Interface index of the pod's host-side veth.
    pub ifindex: u32,
    /// Index into `pod_traffic`; the pod's addresses of both families share it.
    pub slot: u32,
    /// MAC address of the pod's own end of the veth.
    pub mac: [u8; 6],
    /// Zero; room for flags.
    pub reserved: [u8; 2],
}

/// What to do with a packet for a destination prefix.
///
/// One value says everything, so that replacing it changes the prefix in one step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Route {
    /// Underlay address of the peer; IPv4 in the first four bytes, the rest zero. All zero without a peer.
    pub underlay: [u8; 16],
    /// Inner destination MAC for a peer in VXLAN: its VTEP.
    pub vtep_mac: [u8; 6],
    /// One of [`route_kind`].
    pub kind: u8,
    /// Family of `underlay`: 4 or 6, or 0 without a peer.
    pub underlay_family: u8,
    /// Largest packet, from its IP header on, that the path takes, in bytes.
    pub mtu: u16,
    /// Length of the destination prefix, in bits.
    pub prefix_len: u8,
    /// Zero; room for flags.
    pub reserved: u8,
    /// Index into `peer_traffic`; meaningless without a peer.
    pub peer: u32,
}

/// Values of [`Route::kind`].
pub mod route_kind {
    /// The node itself: its addresses and the pods' gateway. Goes up the node's stack.
    pub const HOST: u8 = 1;
    /// The node's own pod CIDR: an address in it that is no pod's is nobody's.
    pub const LOCAL: u8 = 2;
    /// A peer's pods, reached in VXLAN.
    pub const OVERLAY: u8 = 3;
    /// A peer's pods, reached as plain routed packets.
    pub const DIRECT: u8 = 4;
    /// A peer's own address, reached as plain routed packets: what comes from it may be the underlay's own traffic.
    pub const DIRECT_NODE: u8 = 5;
    /// Outside, and not to be masqueraded: goes up the node's stack with the pod's address.
    pub const OUTSIDE: u8 = 6;
    /// Service addresses: one that no service has is nobody's.
    pub const SERVICE: u8 = 7;
    /// An own address of a peer in VXLAN: reached so from this node's pods, but from its own addresses as plain packets.
    ///
    /// A bit more than [`OVERLAY`], so that one test is for both: with two, the verifier walks through all of a packet's departure twice.
    pub const OVERLAY_NODE: u8 = 16 | OVERLAY;
    /// What is left of a kind without that bit.
    pub(super) const WITHOUT_NODE: u8 = 15;
}

impl Route {
    /// Whether it leads to a peer.
    #[inline(always)]
    #[must_use]
    pub const fn is_peer(&self) -> bool {
        matches!(
            self.kind & route_kind::WITHOUT_NODE,
            route_kind::OVERLAY | route_kind::DIRECT | route_kind::DIRECT_NODE
        )
    }

    /// Whether it leads to pods of a peer.
    #[inline(always)]
    #[must_use]
    pub const fn is_pods(&self) -> bool {
        matches!(self.kind, route_kind::OVERLAY | route_kind::DIRECT)
    }

    /// Whether it leads out of the cluster: what no route is for, and what is left to the node's stack.
    #[inline(always)]
    #[must_use]
    pub fn leads_out(route: Option<&Self>) -> bool {
        route.is_none_or(|route| route.kind == route_kind::OUTSIDE)
    }

    /// Whether it leads to a peer in VXLAN.
    #[inline(always)]
    #[must_use]
    pub const fn is_overlay(&self) -> bool {
        self.kind & route_kind::WITHOUT_NODE == route_kind::OVERLAY
    }
}

/// A way out of the node, as this CPU last found it (see [`hops`](crate::hops)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hop {
    /// The route of which this is the way; of a way out of the cluster it has the address there as `underlay`, and
    /// [`NOBODY`](Self::NOBODY) as the peer.
    pub route: Route,
    /// Who sends by a way out of the cluster, as in `underlay`.
    pub source: [u8; 16],
    /// Until when it is taken as it is, in jiffies.
    pub until: u64,
    /// Device to leave by.
    pub ifindex: u32,
    /// MAC of the neighbour.
    pub dst: [u8; 6],
    /// MAC of the device.
    pub src: [u8; 6],
}

impl Hop {
    /// Peer of a way that leads to none.
    pub const NOBODY: u32 = u32::MAX;
}

/// A node that may send us VXLAN, as found by the outer source address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Vtep {
    /// Index into `peer_traffic`.
    pub peer: u32,
}

/// Key data of `sources4` and `sources6`: a pod's device, then an address. A prefix counts the 32 bits of the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source<A> {
    /// Interface index of the pod's host-side veth, in network byte order, as prefix matching needs.
    pub ifindex: [u8; 4],
    /// Source address: an array of bytes.
    pub address: A,
}

// SAFETY: `repr(C)` of byte arrays: no padding, and valid for any bits.
unsafe impl<const N: usize> Zeroable for Source<[u8; N]> {}
// SAFETY: as above.
unsafe impl<const N: usize> Pod for Source<[u8; N]> {}

/// The pod that a [`Source`] belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Allowed {
    /// Index into `pod_traffic`.
    pub slot: u32,
}

/// Packets and bytes in both directions: a pod's as its own interface would count them, a peer's as this node sees it.
///
/// A packet is what the kernel hands over: a GSO or GRO packet of many segments is one packet, and its bytes are those
/// of its own length (from the Ethernet header on, without any tunnel headers).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Packets delivered to the pod, or received from the peer.
    pub rx_packets: u64,
    /// Bytes delivered to the pod, or received from the peer.
    pub rx_bytes: u64,
    /// Packets sent by the pod, or sent to the peer.
    pub tx_packets: u64,
    /// Bytes sent by the pod, or sent to the peer.
    pub tx_bytes: u64,
}

/// A kernel helper that refused, where it was called and why.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct HelperError {
    /// A [`Hook`](crate::counters::Hook).
    pub hook: u8,
    /// A [`Helper`](crate::packet::Helper).
    pub helper: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// What it answered: a negative errno, or for `bpf_fib_lookup` a positive `BPF_FIB_LKUP_RET_*`.
    pub code: i32,
}

/// A token bucket, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Budget {
    /// `CLOCK_MONOTONIC` in nanoseconds, coarse, when `tokens` was last brought up to date.
    pub updated_ns: u64,
    /// What may still be sent.
    pub tokens: u64,
}

#[cfg(feature = "user")]
mod user {
    use super::{Allowed, Budget, Endpoint, HelperError, Hop, Route, Source, Traffic, Vtep};

    // SAFETY: each is `repr(C)` without padding and valid for any bits, which `bytemuck::Pod` has checked.
    unsafe impl aya::Pod for Allowed {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Budget {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Endpoint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HelperError {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Hop {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Route {}
    // SAFETY: as above.
    unsafe impl<const N: usize> aya::Pod for Source<[u8; N]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Traffic {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Vtep {}
}

const _: () = {
    assert!(size_of::<Endpoint>() == 16);
    assert!(size_of::<Route>() == 32);
    assert!(size_of::<Source<[u8; 4]>>() == 8);
    assert!(size_of::<Source<[u8; 16]>>() == 20);
    assert!(size_of::<HelperError>() == 8);
    assert!(size_of::<Hop>() == 72);
};
