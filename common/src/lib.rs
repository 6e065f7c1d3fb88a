//! What Podlane decides, once, for the kernel and for the host.
//!
//! Every decision of the dataplane (parse, look up, deliver, encapsulate, drop and why) is plain `no_std` Rust here,
//! generic over a [`packet::Packet`] and over the [`tables::Tables`]. In the kernel the packet is a TC context and the
//! tables are BPF maps; on the host the packet is a byte buffer and the tables are ordinary collections, so the same
//! code runs in unit tests without a kernel.
//!
//! Read it from the outside in:
//!
//! | module | what it holds |
//! |---|---|
//! | [`hooks`] | one function per hook: what happens to a packet there, top-down |
//! | [`forward`] | where a packet goes once its destination is known: a pod, a peer, the node's stack |
//! | [`hops`] | the way to a peer, remembered |
//! | [`vxlan`] | the tunnel headers, written and checked |
//! | [`stage`] | what may be done to a packet before it is forwarded, as the hooks call it |
//! | [`nat`] | services, connections, masquerade: translation, the long way |
//! | [`flow_cache`] | the short way: what a steady flow's packets come to, remembered whole |
//! | [`mod@tuple`], [`rewrite`] | which connection a packet is of, and the bytes of a translation |
//! | [`sock`] | services again: a socket's, once, instead of each of its packets |
//! | [`pick`] | a backend out of a service's table, for both |
//! | [`answer`], [`icmp`], [`tcp`], [`arp`], [`ndp`] | the answers that the node gives itself |
//! | [`family`] | what differs between IPv4 and IPv6; everything else is one path |
//! | [`verdict`], [`settle`] | what a decision comes to, and how it is carried out and counted |
//! | [`packet`], [`tables`] | the seams to the kernel |
//! | [`maps`], [`node`], [`counters`] | the layouts that user space shares |
//! | [`interest`] | which packets may need translation |
//! | [`wire`], [`linear`], [`checksum`], [`flow`] | headers, where they lie, sums and hashes |

#![cfg_attr(not(any(test, feature = "memory")), no_std)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "a header's field is narrower than a register; each cast says what fits, or what may wrap"
)]

pub mod answer;
pub mod arp;
pub mod checksum;
pub mod counters;
pub mod family;
pub mod flow;
pub mod flow_cache;
pub mod forward;
pub mod handover;
pub mod hooks;
pub mod hops;
pub mod icmp;
pub mod interest;
pub mod linear;
pub mod maps;
pub mod nat;
pub mod ndp;
pub mod node;
pub mod packet;
pub mod pick;
pub mod rewrite;
pub mod settle;
pub mod sock;
pub mod stage;
pub mod tables;
pub mod tcp;
pub mod tuple;
pub mod verdict;
pub mod vxlan;
pub mod wire;

#[cfg(any(test, feature = "memory"))]
pub mod memory;
