//! IPv4 (RFC 791).

use network_types::ip::Ipv4Hdr;

use super::{Family, Fragment, Ip};
use crate::{
    checksum,
    counters::Reason,
    icmp::Error,
    node::Node,
    packet::Packet,
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
    type Addr = [u8; 4];
    type Header = Ipv4Hdr;

    const ETHER_TYPE: [u8; 2] = ether_type::IPV4;
    const IS_V6: bool = false;
    const ICMP: u8 = protocol::ICMP;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, offset: usize) -> Result<Ip<Self>, Reason> {
        let header = packet.at::<Ipv4Hdr>(offset).ok_or(Reason::Malformed)?;
        let header_len = usize::from(header.vihl & 0x0f) * 4;
        if header.vihl >> 4 != 4 || header_len < Self::HEADER_LEN {
            return Err(Reason::Malformed);
        }
        let available = packet.len().wrapping_sub(offset);
        let len = match u16::from_be_bytes(header.tot_len) {
            // A GSO packet above 64 KB (BIG TCP) has no room for its length.
            0 if packet.gso_size() != 0 => available,
            len => usize::from(len),
        };
        if len < header_len || len > available {
            return Err(Reason::Malformed);
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
            src: header.src_addr,
            dst: header.dst_addr,
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
    fn take_hop<P: Packet>(packet: &mut P, offset: usize) -> Result<(), Reason> {
        let header = packet.at_mut::<Ipv4Hdr>(offset).ok_or(Reason::Malformed)?;
        if header.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let old = u16::from_be_bytes([header.ttl, header.proto]);
        header.ttl -= 1;
        header.check = checksum::update(header.check, old, old - 0x0100);
        Ok(())
    }

    #[inline(always)]
    fn set_tos<P: Packet>(packet: &mut P, offset: usize, tos: u8) {
        if let Some(header) = packet.at_mut::<Ipv4Hdr>(offset) {
            let old = u16::from_be_bytes([header.vihl, header.tos]);
            header.tos = tos;
            header.check = checksum::update(header.check, old, u16::from_be_bytes([header.vihl, tos]));
        }
    }

    #[inline(always)]
    fn header(from: Self::Addr, to: Self::Addr, protocol: u8, tos: u8, payload: usize) -> Ipv4Hdr {
        // A GSO packet's length is written per segment by whoever segments it; here it may wrap.
        let tot_len = ((Self::HEADER_LEN + payload) as u16).to_be_bytes();
        let ttl = 64;
        // Identification and flags are zero: such a packet is atomic (RFC 6864, section 4.1) unless a router cuts it.
        let sum = u32::from(u16::from_be_bytes([0x45, tos]))
            + u32::from(u16::from_be_bytes(tot_len))
            + u32::from(u16::from_be_bytes([ttl, protocol]))
            + checksum::sum(&from)
            + checksum::sum(&to);
        Ipv4Hdr {
            vihl: 0x45,
            tos,
            tot_len,
            id: [0; 2],
            frags: [0; 2],
            ttl,
            proto: protocol,
            check: checksum::finish(sum),
            src_addr: from,
            dst_addr: to,
        }
    }

    #[inline(always)]
    fn icmp(error: Error) -> (u8, u8, [u8; 4]) {
        match error {
            // RFC 1191, section 4: the next hop's MTU is in the low half.
            Error::TooBig { mtu } => {
                let [_, _, high, low] = mtu.to_be_bytes();
                (3, 4, [0, 0, high, low])
            }
            Error::HostUnreachable => (3, 1, [0; 4]),
            Error::TimeExceeded => (11, 0, [0; 4]),
        }
    }

    #[inline(always)]
    fn icmp_seed(_: &Self::Addr, _: &Self::Addr, _: usize) -> u32 {
        0
    }

    #[inline(always)]
    fn is_icmp_error(icmp_type: u8) -> bool {
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2).
        matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
    }

    #[inline(always)]
    fn is_multicast(address: &Self::Addr) -> bool {
        address[0] & 0xf0 == 0xe0 || *address == [0xff; 4]
    }

    #[inline(always)]
    fn fold(address: &Self::Addr) -> u32 {
        u32::from_ne_bytes(*address)
    }

    #[inline(always)]
    fn from_route(underlay: &[u8; 16]) -> Self::Addr {
        [underlay[0], underlay[1], underlay[2], underlay[3]]
    }

    #[inline(always)]
    fn underlay(node: &Node) -> Self::Addr {
        node.underlay4()
    }

    #[inline(always)]
    fn gateway(node: &Node) -> Self::Addr {
        node.gateway4()
    }
}
