//! What differs between IPv4 and IPv6. Everything else is one path, generic over [`Family`].

mod v4;
mod v6;

use bytemuck::Pod;

pub use self::{
    v4::V4,
    v6::{V6, walk_extensions},
};
use crate::{
    counters::Reason,
    flow,
    node::Node,
    packet::Packet,
    verdict::Trouble,
    wire::{Ports, Wire, protocol},
};

/// An address family.
pub trait Family: Copy + Sized + 'static {
    /// An address, as it lies in a packet, in as few machine words as hold it: byte arrays would be taken apart.
    type Addr: Copy + PartialEq + Pod;
    /// The fixed part of the IP header.
    type Header: Wire;

    /// EtherType, network byte order.
    const ETHER_TYPE: [u8; 2];
    /// Length of [`Self::Header`].
    const HEADER_LEN: usize = size_of::<Self::Header>();
    /// Whether this is IPv6: for what the kernel asks by family.
    const IS_V6: bool;
    /// Number of the family: 4 or 6.
    const NUMBER: u8;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type of an echo reply.
    const ECHO_REPLY: u8;

    /// Reads the header at `offset` and finds what is behind it. `None` if a header contradicts itself or the packet's
    /// length: [`Reason::Malformed`].
    fn parse<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Self>>;

    /// Reads the header at `offset` that an ICMP error quotes: of what it says is the length of, only a part may be there.
    /// `None` if it is not a plain header of this family with eight bytes behind it, or a later fragment's.
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Self>>;

    /// Writes the addresses of the header at `offset`, and its own checksum if it has one.
    fn readdress<P: Packet>(packet: &mut P, offset: usize, src: Self::Addr, dst: Self::Addr);

    /// How many hops the header at `offset` has left; none if there is no header.
    fn hops<P: Packet>(packet: &P, offset: usize) -> u8;

    /// Writes the addresses of the header at `offset`, which changes a sum over it by `difference`, and its own checksum if it has one.
    fn put_addresses<P: Packet>(
        packet: &mut P,
        offset: usize,
        src: Self::Addr,
        dst: Self::Addr,
        difference: u32,
    );

    /// Takes one hop off the header at `offset`.
    ///
    /// # Errors
    ///
    /// [`Reason::TtlExceeded`] if none is left, and the header is as it was.
    fn take_hop<P: Packet>(packet: &mut P, offset: usize) -> Result<(), Reason>;

    /// Writes how many hops the packet of the header at `offset` may take.
    fn set_hops<P: Packet>(packet: &mut P, offset: usize, hops: u8);

    /// Writes the type of service of the header at `offset`.
    fn set_tos<P: Packet>(packet: &mut P, offset: usize, tos: u8);

    /// Writes a header of our own: no options, never to be refused for its size by a router (no DF), identification 0.
    fn write(header: &mut Self::Header, fields: &Fields<Self>);

    /// Type and code of an ICMP error, and the four bytes after its checksum.
    fn icmp(trouble: Trouble) -> (u8, u8, [u8; 4]);

    /// What an ICMP message of that length between two addresses starts its checksum with.
    fn icmp_seed(from: Self::Addr, to: Self::Addr, length: usize) -> u32;

    /// Whether an ICMP message of that type is an error, which must not be answered with another.
    fn is_icmp_error(icmp_type: u8) -> bool;

    /// Whether more than one node is meant.
    fn is_multicast(address: Self::Addr) -> bool;

    /// Whether an address is one of the first two of its prefix, of that many bits, if there are more: those that a node keeps for
    /// itself where it has the prefix for its pods, flannel the network's own for its VXLAN device and the next for its bridge.
    fn is_nodes_own(address: Self::Addr, prefix_len: u8) -> bool;

    /// Sum of an address's 16-bit words.
    fn sum(address: Self::Addr) -> u32;

    /// An address as it lies in a map of both families.
    fn wide(address: Self::Addr) -> [u64; 2];

    /// An address out of a map of both families.
    fn narrow(words: [u64; 2]) -> Self::Addr;

    /// An address as one word, for hashing.
    fn fold(address: Self::Addr) -> u32;

    /// An address of this family out of a [`Route`](crate::maps::Route).
    fn from_route(underlay: &[u8; 16]) -> Self::Addr;

    /// The node's own address on the underlay.
    fn underlay(node: &Node) -> Self::Addr;

    /// The pods' gateway.
    fn gateway(node: &Node) -> Self::Addr;

    /// What stands for a client whose answers would not come this way otherwise.
    fn loopback(node: &Node) -> Self::Addr;
}

/// Hops that a packet of our own may take, as Linux's own.
pub const TTL: u8 = 64;

/// What a header of our own has to be told.
pub struct Fields<F: Family> {
    /// Source.
    pub src: F::Addr,
    /// Destination.
    pub dst: F::Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Hops that it may take.
    pub ttl: u8,
    /// Length of the payload, in bytes.
    pub payload: usize,
}

/// What an IP header says.
///
/// In an order and an alignment in which any part that is copied is copied in aligned words: the verifier takes no other
/// accesses to the stack.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Ip<F: Family> {
    /// See [`Self::payload`].
    pub payload: usize,
    /// Length from the IP header on, in bytes.
    pub len: usize,
    /// Source.
    pub src: F::Addr,
    /// Destination.
    pub dst: F::Addr,
    /// Identification, as it lies in the packet: what the fragments of one packet share. Zero in IPv6 without a fragment header.
    pub id: u32,
    /// Protocol of the payload, past any extension headers.
    pub protocol: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// Whether a router may fragment it.
    pub may_fragment: bool,
}

/// Whether a packet is part of a larger one.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    No,
    /// It is the first part: its payload has the headers of the upper protocol.
    First,
    /// It is a later part.
    Later,
}

impl<F: Family> Ip<F> {
    /// Where the payload starts, in bytes from the start of the packet.
    ///
    /// Within a bound that the verifier can see where it knows nothing else of it: behind the call of a function that it
    /// verifies on its own. Headers end well before.
    #[inline(always)]
    #[must_use]
    pub const fn payload(&self) -> usize {
        const BOUND: usize = 4095;
        self.payload & BOUND
    }

    /// One number for its flow; all fragments of a packet share it, and so do the two ends' outer ports' spreads.
    #[inline(always)]
    pub fn flow<P: Packet>(&self, packet: &P) -> u32 {
        let ports = match (self.fragment, has_ports(self.protocol)) {
            (Fragment::No, true) => packet.at::<Ports>(self.payload()).copied().unwrap_or_default(),
            _ => Ports::default(),
        };
        flow::hash(F::fold(self.src), F::fold(self.dst), ports, self.protocol)
    }

    /// Checks that the upper protocol's header is there, whole: what is forwarded can be translated.
    #[inline(always)]
    fn with_upper_header<P: Packet>(self, packet: &P, offset: usize) -> Option<Self> {
        let needed = match (self.fragment, self.protocol) {
            (Fragment::Later, _) => 0,
            (_, protocol::TCP) => 20,
            (_, protocol::UDP | protocol::ICMP | protocol::ICMPV6) => 8,
            (_, protocol::SCTP) => 12,
            _ => 0,
        };
        let end = self.payload() + needed;
        if end > offset + self.len || end > packet.len() { None } else { Some(self) }
    }
}

/// Whether the protocol's header starts with [`Ports`].
#[inline(always)]
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two addresses of a prefix, if there are more, whatever its length.
    #[test]
    fn a_node_has_the_first_two_addresses_of_a_prefix() {
        for (len, address, own) in [
            (24, [10, 200, 1, 0], true),
            (24, [10, 200, 1, 1], true),
            (24, [10, 200, 1, 2], false),
            (24, [10, 200, 1, 128], false),
            (16, [10, 200, 1, 0], false),
            (16, [10, 200, 0, 1], true),
            (30, [10, 200, 1, 5], true),
            (31, [10, 200, 1, 0], false),
            (32, [10, 200, 1, 1], false),
            (0, [0, 0, 0, 1], true),
        ] {
            assert_eq!(V4::is_nodes_own(u32::from_ne_bytes(address), len), own, "{address:?}/{len}");
        }
        for (len, high, low, own) in [
            (64, 0xfd00_0010, 0, true),
            (64, 0xfd00_0010, 1, true),
            (64, 0xfd00_0010, 2, false),
            (64, 0xfd00_0010, 1 << 63, false),
            (60, 0xfd00_0010, 1, true),
            (60, 0xfd00_0011, 1, false),
            (112, 0xfd00_0011, 0x0002_0001, true),
            (112, 0xfd00_0011, 0x0002_0100, false),
            (126, 0, 5, true),
            (126, 0, 6, false),
            (127, 0, 4, false),
            (128, 0, 1, false),
            (0, 0, 1, true),
        ] {
            let address = [u64::to_be(high), u64::to_be(low)];
            assert_eq!(V6::is_nodes_own(address, len), own, "{high:x}:{low:x}/{len}");
        }
    }
}
