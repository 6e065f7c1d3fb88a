//! IPv6 (RFC 8200).

use network_types::ip::Ipv6Hdr;

use super::{Family, Fragment, Ip};
use crate::{
    checksum,
    counters::Reason,
    icmp::Error,
    node::Node,
    packet::Packet,
    wire::{Extension, ether_type, protocol},
};

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

/// How many extension headers are walked. More than a host sends; a bound is what the verifier asks for.
const MAX_EXTENSIONS: usize = 6;

impl Family for V6 {
    type Addr = [u8; 16];
    type Header = Ipv6Hdr;

    const ETHER_TYPE: [u8; 2] = ether_type::IPV6;
    const IS_V6: bool = true;
    const ICMP: u8 = protocol::ICMPV6;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, offset: usize) -> Result<Ip<Self>, Reason> {
        let header = packet.at::<Ipv6Hdr>(offset).ok_or(Reason::Malformed)?;
        if header.vcf[0] >> 4 != 6 {
            return Err(Reason::Malformed);
        }
        let available = packet.len().wrapping_sub(offset);
        let len = match u16::from_be_bytes(header.payload_len) {
            // A GSO packet above 64 KB (BIG TCP) has no room for its length.
            0 if packet.gso_size() != 0 => available,
            len => Self::HEADER_LEN + usize::from(len),
        };
        if len > available {
            return Err(Reason::Malformed);
        }
        let mut ip = Ip {
            src: header.src_addr,
            dst: header.dst_addr,
            protocol: header.next_hdr,
            tos: (header.vcf[0] << 4) | (header.vcf[1] >> 4),
            len,
            payload: offset + Self::HEADER_LEN,
            fragment: Fragment::No,
            // Only the source may fragment.
            may_fragment: false,
        };
        if is_extension(ip.protocol) {
            walk_extensions(packet, &mut ip)?;
        }
        ip.with_upper_header(packet, offset)
    }

    #[inline(always)]
    fn take_hop<P: Packet>(packet: &mut P, offset: usize) -> Result<(), Reason> {
        let header = packet.at_mut::<Ipv6Hdr>(offset).ok_or(Reason::Malformed)?;
        if header.hop_limit <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let old = u16::from_be_bytes([header.next_hdr, header.hop_limit]);
        header.hop_limit -= 1;
        packet.word_changed(old, old - 1);
        Ok(())
    }

    #[inline(always)]
    fn set_tos<P: Packet>(packet: &mut P, offset: usize, tos: u8) {
        if let Some(header) = packet.at_mut::<Ipv6Hdr>(offset) {
            let old = u16::from_be_bytes([header.vcf[0], header.vcf[1]]);
            header.vcf[0] = 0x60 | (tos >> 4);
            header.vcf[1] = (tos << 4) | (header.vcf[1] & 0x0f);
            let new = u16::from_be_bytes([header.vcf[0], header.vcf[1]]);
            packet.word_changed(old, new);
        }
    }

    #[inline(always)]
    fn header(from: Self::Addr, to: Self::Addr, protocol: u8, tos: u8, payload: usize) -> Ipv6Hdr {
        Ipv6Hdr {
            vcf: [0x60 | (tos >> 4), tos << 4, 0, 0],
            // A GSO packet's length is written per segment by whoever segments it; here it may wrap.
            payload_len: (payload as u16).to_be_bytes(),
            next_hdr: protocol,
            hop_limit: 64,
            src_addr: from,
            dst_addr: to,
        }
    }

    #[inline(always)]
    fn icmp(error: Error) -> (u8, u8, [u8; 4]) {
        match error {
            Error::TooBig { mtu } => (2, 0, mtu.to_be_bytes()),
            // Address unreachable (RFC 4443, section 3.1).
            Error::HostUnreachable => (1, 3, [0; 4]),
            Error::TimeExceeded => (3, 0, [0; 4]),
        }
    }

    #[inline(always)]
    fn icmp_seed(from: &Self::Addr, to: &Self::Addr, length: usize) -> u32 {
        // The pseudo-header (RFC 8200, section 8.1); an error's length fits in 16 bits.
        checksum::sum(from) + checksum::sum(to) + (length & 0xffff) as u32 + u32::from(protocol::ICMPV6)
    }

    #[inline(always)]
    fn is_icmp_error(icmp_type: u8) -> bool {
        icmp_type < 128
    }

    #[inline(always)]
    fn is_multicast(address: &Self::Addr) -> bool {
        address[0] == 0xff
    }

    #[inline(always)]
    fn fold(address: &Self::Addr) -> u32 {
        let words: [u32; 4] = bytemuck::cast(*address);
        // Rotated so that equal words (a prefix repeated, an embedded IPv4 address) don't cancel out.
        words[0] ^ words[1].rotate_left(8) ^ words[2].rotate_left(16) ^ words[3].rotate_left(24)
    }

    #[inline(always)]
    fn from_route(underlay: &[u8; 16]) -> Self::Addr {
        *underlay
    }

    #[inline(always)]
    fn underlay(node: &Node) -> Self::Addr {
        node.underlay6()
    }

    #[inline(always)]
    fn gateway(node: &Node) -> Self::Addr {
        node.gateway6()
    }
}

/// Whether a header of that number leads to another.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION)
}

/// Moves `ip.payload` past the extension headers.
#[inline(always)]
fn walk_extensions<P: Packet>(packet: &P, ip: &mut Ip<V6>) -> Result<(), Reason> {
    let mut walked = 0;
    while walked < MAX_EXTENSIONS {
        if !is_extension(ip.protocol) {
            return Ok(());
        }
        let extension = packet.at::<Extension>(ip.payload).ok_or(Reason::Malformed)?;
        if ip.protocol == protocol::FRAGMENT {
            let word = u16::from_be_bytes(extension.fragment);
            if word & 0xfff8 != 0 {
                // What follows is a slice of the payload: nothing to walk.
                ip.fragment = Fragment::Later;
                ip.protocol = extension.next;
                ip.payload += 8;
                return Ok(());
            }
            // An atomic fragment (RFC 6946) is whole.
            if word & 1 != 0 {
                ip.fragment = Fragment::First;
            }
            ip.payload += 8;
        } else {
            ip.payload += 8 + 8 * usize::from(extension.length);
        }
        ip.protocol = extension.next;
        walked += 1;
    }
    if is_extension(ip.protocol) { Err(Reason::Malformed) } else { Ok(()) }
}
