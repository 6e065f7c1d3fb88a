//! IPv6 (RFC 8200).

use network_types::ip::Ipv6Hdr;

use super::{Family, Fields, Fragment, Ip};
use crate::{
    checksum,
    counters::Reason,
    node::Node,
    packet::Packet,
    verdict::Trouble,
    wire::{Extension, ether_type, load16, protocol, store16},
};

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

/// How many extension headers are walked. More than a host sends; a bound is what the verifier asks for.
const MAX_EXTENSIONS: usize = 6;

impl Family for V6 {
    type Addr = [u64; 2];
    type Header = Ipv6Hdr;

    const ETHER_TYPE: [u8; 2] = ether_type::IPV6;
    const IS_V6: bool = true;
    const NUMBER: u8 = 6;
    const ICMP: u8 = protocol::ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Self>> {
        let header = packet.at::<Ipv6Hdr>(offset)?;
        if header.vcf[0] >> 4 != 6 {
            return None;
        }
        let available = packet.len().wrapping_sub(offset);
        let len = match u16::from_be_bytes(header.payload_len) {
            // A GSO packet above 64 KB (BIG TCP) has no room for its length.
            0 if packet.gso_size() != 0 => available,
            len => Self::HEADER_LEN + usize::from(len),
        };
        if len > available {
            return None;
        }
        let mut ip = Ip {
            src: load16(&header.src_addr),
            dst: load16(&header.dst_addr),
            id: 0,
            protocol: header.next_hdr,
            tos: (header.vcf[0] << 4) | (header.vcf[1] >> 4),
            len,
            payload: offset + Self::HEADER_LEN,
            fragment: Fragment::No,
            // Only the source may fragment.
            may_fragment: false,
        };
        if is_extension(ip.protocol) {
            let walked = packet.walk_extensions(ip.payload(), ip.protocol);
            if walked == 0 {
                return None;
            }
            let walk = Walk::unpack(walked);
            ip.payload = walk.payload;
            ip.protocol = walk.protocol;
            ip.fragment = walk.fragment;
            ip.id = walk.id;
        }
        ip.with_upper_header(packet, offset)
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Self>> {
        let header = packet.at::<Ipv6Hdr>(offset)?;
        if header.vcf[0] >> 4 != 6 || is_extension(header.next_hdr) {
            return None;
        }
        let ip = Ip {
            payload: offset + Self::HEADER_LEN,
            len: Self::HEADER_LEN + usize::from(u16::from_be_bytes(header.payload_len)),
            src: load16(&header.src_addr),
            dst: load16(&header.dst_addr),
            id: 0,
            protocol: header.next_hdr,
            tos: 0,
            fragment: Fragment::No,
            may_fragment: false,
        };
        packet.at::<[u8; 8]>(ip.payload()).map(|_| ip)
    }

    #[inline(always)]
    fn readdress<P: Packet>(packet: &mut P, offset: usize, src: [u64; 2], dst: [u64; 2]) {
        if let Some(header) = packet.at_mut::<Ipv6Hdr>(offset) {
            store16(src, &mut header.src_addr);
            store16(dst, &mut header.dst_addr);
        }
    }

    #[inline(always)]
    fn put_addresses<P: Packet>(packet: &mut P, offset: usize, src: [u64; 2], dst: [u64; 2], _: u32) {
        Self::readdress(packet, offset, src, dst);
    }

    #[inline(always)]
    fn hops<P: Packet>(packet: &P, offset: usize) -> u8 {
        packet.at::<Ipv6Hdr>(offset).map_or(0, |header| header.hop_limit)
    }

    #[inline(always)]
    fn take_hop<P: Packet>(packet: &mut P, offset: usize) -> Result<(), Reason> {
        let header = packet.at_mut::<Ipv6Hdr>(offset).ok_or(Reason::Malformed)?;
        if header.hop_limit <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let old = [header.next_hdr, header.hop_limit];
        header.hop_limit -= 1;
        let new = [header.next_hdr, header.hop_limit];
        packet.word_changed(old, new);
        Ok(())
    }

    #[inline(always)]
    fn set_hops<P: Packet>(packet: &mut P, offset: usize, hops: u8) {
        if let Some(header) = packet.at_mut::<Ipv6Hdr>(offset) {
            let old = [header.next_hdr, header.hop_limit];
            header.hop_limit = hops;
            let new = [header.next_hdr, hops];
            packet.word_changed(old, new);
        }
    }

    #[inline(always)]
    fn set_tos<P: Packet>(packet: &mut P, offset: usize, tos: u8) {
        if let Some(header) = packet.at_mut::<Ipv6Hdr>(offset) {
            let old = [header.vcf[0], header.vcf[1]];
            header.vcf[0] = 0x60 | (tos >> 4);
            header.vcf[1] = (tos << 4) | (header.vcf[1] & 0x0f);
            let new = [header.vcf[0], header.vcf[1]];
            packet.word_changed(old, new);
        }
    }

    #[inline(always)]
    fn write(header: &mut Ipv6Hdr, fields: &Fields<Self>) {
        let Fields { src, dst, protocol, tos, ttl, payload } = *fields;
        header.vcf = [0x60 | (tos >> 4), tos << 4, 0, 0];
        // A GSO packet's length is written per segment by whoever cuts it; here it may wrap.
        header.payload_len = (payload as u16).to_be_bytes();
        header.next_hdr = protocol;
        header.hop_limit = ttl;
        store16(src, &mut header.src_addr);
        store16(dst, &mut header.dst_addr);
    }

    #[inline(always)]
    fn icmp(trouble: Trouble) -> (u8, u8, [u8; 4]) {
        match trouble {
            Trouble::TooBig { mtu } => (2, 0, mtu.to_be_bytes()),
            // Address unreachable (RFC 4443, section 3.1).
            Trouble::HostUnreachable => (1, 3, [0; 4]),
            Trouble::PortUnreachable => (1, 4, [0; 4]),
            Trouble::TimeExceeded => (3, 0, [0; 4]),
            Trouble::Reset | Trouble::Echo => (Self::ECHO_REPLY, 0, [0; 4]),
        }
    }

    #[inline(always)]
    fn icmp_seed(from: [u64; 2], to: [u64; 2], length: usize) -> u32 {
        // The pseudo-header (RFC 8200, section 8.1); an error's length fits in 16 bits.
        let length = checksum::word((length as u16).to_be_bytes());
        Self::sum(from) + Self::sum(to) + length + checksum::word([0, protocol::ICMPV6])
    }

    #[inline(always)]
    fn is_icmp_error(icmp_type: u8) -> bool {
        icmp_type < 128
    }

    #[inline(always)]
    fn is_multicast(address: [u64; 2]) -> bool {
        u64::from_be(address[0]) >> 56 == 0xff
    }

    #[inline(always)]
    fn is_nodes_own([high, low]: [u64; 2], prefix_len: u8) -> bool {
        let (high, low) = (u64::from_be(high), u64::from_be(low));
        match prefix_len {
            0..64 => high & (u64::MAX >> prefix_len) == 0 && low <= 1,
            64..127 => low & (u64::MAX >> (prefix_len - 64)) <= 1,
            _ => false,
        }
    }

    #[inline(always)]
    fn sum([a, b]: [u64; 2]) -> u32 {
        checksum::words(a as u32)
            + checksum::words((a >> 32) as u32)
            + checksum::words(b as u32)
            + checksum::words((b >> 32) as u32)
    }

    #[inline(always)]
    fn wide(address: [u64; 2]) -> [u64; 2] {
        address
    }

    #[inline(always)]
    fn narrow(words: [u64; 2]) -> [u64; 2] {
        words
    }

    #[inline(always)]
    fn fold(address: [u64; 2]) -> u32 {
        // Rotated so that equal words (a prefix repeated, an embedded IPv4 address) don't cancel out.
        let mixed = address[0] ^ address[1].rotate_left(24);
        (mixed ^ (mixed >> 32).rotate_left(8)) as u32
    }

    #[inline(always)]
    fn from_route(underlay: &[u8; 16]) -> [u64; 2] {
        load16(underlay)
    }

    #[inline(always)]
    fn underlay(node: &Node) -> [u64; 2] {
        load16(&node.underlay6)
    }

    #[inline(always)]
    fn gateway(node: &Node) -> [u64; 2] {
        load16(&node.gateway6)
    }

    #[inline(always)]
    fn loopback(node: &Node) -> [u64; 2] {
        load16(&node.loopback6)
    }
}

/// Whether a header of that number leads to another.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION)
}

/// Where the extension headers lead: past them, `payload` and `protocol` of an [`Ip`], its `fragment` and its `id`.
#[derive(Clone, Copy)]
struct Walk {
    payload: usize,
    protocol: u8,
    fragment: Fragment,
    id: u32,
}

impl Walk {
    /// Packed into a number, as a BPF function can return it. Not zero: an extension header has been walked.
    #[inline(always)]
    const fn pack(self) -> u64 {
        // An offset of 16 bits: the walk ends well before.
        (self.id as u64) << 32
            | (self.payload as u64 & 0xffff) << 16
            | (self.fragment as u64) << 8
            | self.protocol as u64
    }

    #[inline(always)]
    const fn unpack(packed: u64) -> Self {
        let fragment = match (packed >> 8) as u8 {
            1 => Fragment::First,
            2 => Fragment::Later,
            _ => Fragment::No,
        };
        // Bounded also where the verifier has not seen the walk.
        let payload = (packed >> 16) as usize & 0xfff;
        Self { payload, protocol: packed as u8, fragment, id: (packed >> 32) as u32 }
    }
}

/// Walks the extension headers of an IPv6 packet from `payload` on, the first of which is of that protocol: to what follows them, packed into
/// a number. Zero if they are malformed.
#[inline(always)]
pub fn walk_extensions<P: Packet>(packet: &P, payload: usize, protocol: u8) -> u64 {
    let mut walk = Walk { payload, protocol, fragment: Fragment::No, id: 0 };
    let mut walked = 0;
    while walked < MAX_EXTENSIONS {
        if !is_extension(walk.protocol) {
            return walk.pack();
        }
        // Far beyond what is looked at; and a bound, for the verifier.
        if walk.payload > 1024 {
            return 0;
        }
        let Some(extension) = packet.at::<Extension>(walk.payload) else { return 0 };
        let header = walk.protocol;
        walk.protocol = extension.next;
        walk.payload += 8;
        if header == protocol::FRAGMENT {
            let word = u16::from_be_bytes(extension.fragment);
            walk.id = u32::from_ne_bytes(extension.id);
            if word & 0xfff8 != 0 {
                // What follows is a slice of the payload: nothing to walk.
                walk.fragment = Fragment::Later;
                return walk.pack();
            }
            // An atomic fragment (RFC 6946) is whole.
            if word & 1 != 0 {
                walk.fragment = Fragment::First;
            }
        } else {
            walk.payload += 8 * usize::from(extension.length);
        }
        walked += 1;
    }
    if is_extension(walk.protocol) { 0 } else { walk.pack() }
}
