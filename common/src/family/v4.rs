//! IPv4 (RFC 791).

use network_types::ip::Ipv4Hdr;

use super::{Family, Fields, Fragment, Ip};
use crate::{
    checksum,
    counters::Reason,
    node::Node,
    packet::Packet,
    verdict::Trouble,
    wire::{ether_type, protocol},
};

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

/// Flags in the fragment word (RFC 791, section 3.1).
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

impl Family for V4 {
    type Addr = u32;
    type Header = Ipv4Hdr;

    const ETHER_TYPE: [u8; 2] = ether_type::IPV4;
    const IS_V6: bool = false;
    const NUMBER: u8 = 4;
    const ICMP: u8 = protocol::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Self>> {
        let header = packet.at::<Ipv4Hdr>(offset)?;
        let header_len = usize::from(header.vihl & 0x0f) * 4;
        if header.vihl >> 4 != 4 || header_len < Self::HEADER_LEN {
            return None;
        }
        let available = packet.len().wrapping_sub(offset);
        let len = match u16::from_be_bytes(header.tot_len) {
            // A GSO packet above 64 KB (BIG TCP) has no room for its length.
            0 if packet.gso_size() != 0 => available,
            len => usize::from(len),
        };
        if len < header_len || len > available {
            return None;
        }
        let frags = u16::from_be_bytes(header.frags);
        let fragment = if frags & OFFSET != 0 {
            Fragment::Later
        } else if frags & MORE_FRAGMENTS != 0 {
            Fragment::First
        } else {
            Fragment::No
        };
        let ip = Ip {
            src: u32::from_ne_bytes(header.src_addr),
            dst: u32::from_ne_bytes(header.dst_addr),
            id: u32::from(u16::from_ne_bytes(header.id)),
            protocol: header.proto,
            tos: header.tos,
            len,
            payload: offset + header_len,
            fragment,
            may_fragment: frags & DONT_FRAGMENT == 0,
        };
        ip.with_upper_header(packet, offset)
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Ip<Self>> {
        let header = packet.at::<Ipv4Hdr>(offset)?;
        let header_len = usize::from(header.vihl & 0x0f) * 4;
        let later = u16::from_be_bytes(header.frags) & OFFSET != 0;
        if header.vihl >> 4 != 4 || header_len < Self::HEADER_LEN || later {
            return None;
        }
        let ip = Ip {
            payload: offset + header_len,
            len: usize::from(u16::from_be_bytes(header.tot_len)),
            src: u32::from_ne_bytes(header.src_addr),
            dst: u32::from_ne_bytes(header.dst_addr),
            id: u32::from(u16::from_ne_bytes(header.id)),
            protocol: header.proto,
            tos: header.tos,
            fragment: Fragment::No,
            may_fragment: false,
        };
        packet.at::<[u8; 8]>(ip.payload()).map(|_| ip)
    }

    #[inline(always)]
    fn readdress<P: Packet>(packet: &mut P, offset: usize, src: u32, dst: u32) {
        if let Some(header) = packet.at_mut::<Ipv4Hdr>(offset) {
            let old = checksum::words(u32::from_ne_bytes(header.src_addr))
                + checksum::words(u32::from_ne_bytes(header.dst_addr));
            let new = checksum::words(src) + checksum::words(dst);
            header.check = checksum::adjust(header.check, checksum::difference(old, new));
            header.src_addr = src.to_ne_bytes();
            header.dst_addr = dst.to_ne_bytes();
        }
    }

    #[inline(always)]
    fn put_addresses<P: Packet>(packet: &mut P, offset: usize, src: u32, dst: u32, difference: u32) {
        if let Some(header) = packet.at_mut::<Ipv4Hdr>(offset) {
            header.check = checksum::adjust(header.check, difference);
            header.src_addr = src.to_ne_bytes();
            header.dst_addr = dst.to_ne_bytes();
        }
    }

    #[inline(always)]
    fn hops<P: Packet>(packet: &P, offset: usize) -> u8 {
        packet.at::<Ipv4Hdr>(offset).map_or(0, |header| header.ttl)
    }

    #[inline(always)]
    fn take_hop<P: Packet>(packet: &mut P, offset: usize) -> Result<(), Reason> {
        let header = packet.at_mut::<Ipv4Hdr>(offset).ok_or(Reason::Malformed)?;
        if header.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let old = [header.ttl, header.proto];
        header.ttl -= 1;
        header.check = checksum::update(header.check, old, [header.ttl, header.proto]);
        Ok(())
    }

    #[inline(always)]
    fn set_hops<P: Packet>(packet: &mut P, offset: usize, hops: u8) {
        if let Some(header) = packet.at_mut::<Ipv4Hdr>(offset) {
            let old = [header.ttl, header.proto];
            header.ttl = hops;
            header.check = checksum::update(header.check, old, [hops, header.proto]);
        }
    }

    #[inline(always)]
    fn set_tos<P: Packet>(packet: &mut P, offset: usize, tos: u8) {
        if let Some(header) = packet.at_mut::<Ipv4Hdr>(offset) {
            let old = [header.vihl, header.tos];
            header.tos = tos;
            header.check = checksum::update(header.check, old, [header.vihl, tos]);
        }
    }

    #[inline(always)]
    fn write(header: &mut Ipv4Hdr, fields: &Fields<Self>) {
        let Fields { src, dst, protocol, tos, ttl, payload } = *fields;
        // A GSO packet's length is written per segment by whoever cuts it; here it may wrap.
        let tot_len = ((Self::HEADER_LEN + payload) as u16).to_be_bytes();
        let sum = checksum::word([0x45, tos])
            + checksum::word(tot_len)
            + checksum::word([ttl, protocol])
            + checksum::words(src)
            + checksum::words(dst);
        header.vihl = 0x45;
        header.tos = tos;
        header.tot_len = tot_len;
        // Identification and flags are zero: such a packet is atomic (RFC 6864, section 4.1) unless a router cuts it.
        header.id = [0; 2];
        header.frags = [0; 2];
        header.ttl = ttl;
        header.proto = protocol;
        header.check = checksum::finish(sum);
        header.src_addr = src.to_ne_bytes();
        header.dst_addr = dst.to_ne_bytes();
    }

    #[inline(always)]
    fn icmp(trouble: Trouble) -> (u8, u8, [u8; 4]) {
        match trouble {
            // RFC 1191, section 4: the next hop's MTU is in the low half.
            Trouble::TooBig { mtu } => {
                let [_, _, high, low] = mtu.to_be_bytes();
                (3, 4, [0, 0, high, low])
            }
            Trouble::HostUnreachable => (3, 1, [0; 4]),
            Trouble::PortUnreachable => (3, 3, [0; 4]),
            Trouble::TimeExceeded => (11, 0, [0; 4]),
            Trouble::Reset | Trouble::Echo => (Self::ECHO_REPLY, 0, [0; 4]),
        }
    }

    #[inline(always)]
    fn icmp_seed(_: u32, _: u32, _: usize) -> u32 {
        0
    }

    #[inline(always)]
    fn is_icmp_error(icmp_type: u8) -> bool {
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2).
        matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
    }

    #[inline(always)]
    fn is_multicast(address: u32) -> bool {
        u32::from_be(address) >> 28 == 0xe || address == u32::MAX
    }

    #[inline(always)]
    fn is_nodes_own(address: u32, prefix_len: u8) -> bool {
        prefix_len < 31 && u32::from_be(address) & (u32::MAX >> prefix_len) <= 1
    }

    #[inline(always)]
    fn sum(address: u32) -> u32 {
        checksum::words(address)
    }

    #[inline(always)]
    fn wide(address: u32) -> [u64; 2] {
        // The first four bytes of the first word, whichever way round a word lies.
        [u64::from_le(u64::from(u32::from_le(address))), 0]
    }

    #[inline(always)]
    fn narrow(words: [u64; 2]) -> u32 {
        u32::from_le(u64::from_le(words[0]) as u32)
    }

    #[inline(always)]
    fn fold(address: u32) -> u32 {
        address
    }

    #[inline(always)]
    fn from_route(underlay: &[u8; 16]) -> u32 {
        u32::from_ne_bytes([underlay[0], underlay[1], underlay[2], underlay[3]])
    }

    #[inline(always)]
    fn underlay(node: &Node) -> u32 {
        u32::from_ne_bytes(node.underlay4)
    }

    #[inline(always)]
    fn gateway(node: &Node) -> u32 {
        u32::from_ne_bytes(node.gateway4)
    }

    #[inline(always)]
    fn loopback(node: &Node) -> u32 {
        u32::from_ne_bytes(node.loopback4)
    }
}
