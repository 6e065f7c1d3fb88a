//! Which connection a packet is of.

use crate::{
    family::{Family, Fragment, Ip, has_ports},
    maps::{FragmentKey, FragmentPorts, Tuple},
    packet::Packet,
    tables::Services,
    wire::{Ports, protocol, store16},
};

/// Where ICMP has its identifier, in bytes from its header.
pub const ICMP_ID: usize = 4;

/// Reads the tuple of a packet. False if it has none: it is an ICMP message other than an echo, or a later fragment of a packet
/// whose first one is not known.
#[inline(always)]
pub fn read<F, D>(packet: &D, ip: &Ip<F>, tuple: &mut Tuple<F::Addr>) -> bool
where
    F: Family,
    D: Packet + Services,
{
    let ports = match ip.fragment {
        Fragment::Later => remembered(packet, ip),
        _ => ports(packet, ip),
    };
    let Some([a, b, c, d]) = ports else { return false };
    tuple.src = ip.src;
    tuple.dst = ip.dst;
    tuple.src_port = [a, b];
    tuple.dst_port = [c, d];
    tuple.protocol = ip.protocol;
    tuple.reserved = [0; 3];
    true
}

/// Source and destination port, or what stands for them.
#[inline(always)]
pub fn ports<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> Option<Ports> {
    if has_ports(ip.protocol) {
        return packet.at::<Ports>(ip.payload()).copied();
    }
    if ip.protocol != F::ICMP {
        return Some([0; 4]);
    }
    let [icmp_type, _, _, _, a, b] = *packet.at::<[u8; ICMP_ID + 2]>(ip.payload())?;
    if icmp_type == F::ECHO_REQUEST {
        Some([a, b, 0, 0])
    } else if icmp_type == F::ECHO_REPLY {
        Some([0, 0, a, b])
    } else {
        None
    }
}

/// Whether it is an ICMP error.
#[inline(always)]
pub fn is_icmp_error<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> bool {
    ip.protocol == F::ICMP
        && ip.fragment != Fragment::Later
        && packet.at::<u8>(ip.payload()).is_some_and(|icmp_type| F::is_icmp_error(*icmp_type))
}

/// Flags of a TCP header (RFC 9293, section 3.1); none for what has no such header.
#[inline(always)]
pub fn tcp_flags<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> u8 {
    const FLAGS: usize = 13;
    if ip.protocol != protocol::TCP || ip.fragment == Fragment::Later {
        return 0;
    }
    packet.at::<u8>(ip.payload() + FLAGS).copied().unwrap_or(0)
}

/// What the first fragment of a packet said.
#[inline(always)]
fn remembered<F: Family, S: Services>(packet: &S, ip: &Ip<F>) -> Option<Ports> {
    let FragmentPorts { src_port: [a, b], dst_port: [c, d] } = packet.fragment(&fragment(ip))?;
    Some([a, b, c, d])
}

/// Remembers what a first fragment says for the later ones, which don't.
#[inline(never)]
pub fn remember<F: Family, S: Services>(packet: &mut S, ip: &Ip<F>, tuple: &Tuple<F::Addr>) {
    packet.cut(&fragment(ip), FragmentPorts { src_port: tuple.src_port, dst_port: tuple.dst_port });
}

/// What the fragments of a packet have in common.
#[inline(always)]
fn fragment<F: Family>(ip: &Ip<F>) -> FragmentKey {
    let mut key = FragmentKey {
        src: [0; 16],
        dst: [0; 16],
        id: ip.id,
        protocol: ip.protocol,
        family: F::NUMBER,
        reserved: [0; 2],
    };
    store16(F::wide(ip.src), &mut key.src);
    store16(F::wide(ip.dst), &mut key.dst);
    key
}
