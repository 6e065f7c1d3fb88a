//! The bytes of a translation.

use crate::{
    checksum,
    family::{Family, Fragment, Ip},
    maps::Tuple,
    packet::Packet,
    tuple::ICMP_ID,
    wire::{ETH_LEN, Ports, protocol},
};

/// Makes a packet whose tuple is `from` one whose tuple is `to`. `ip` follows.
#[inline(always)]
pub fn packet<F, P>(packet: &mut P, ip: &mut Ip<F>, from: &Tuple<F::Addr>, to: &Tuple<F::Addr>)
where
    F: Family,
    P: Packet,
{
    change(packet, ip, to, address_change::<F>(from, to), port_change(from, to));
}

/// Makes a packet one whose tuple is `to`, which changes a sum over its addresses and one over its ports by so much. `ip` follows.
#[inline(always)]
pub fn change<F, P>(packet: &mut P, ip: &mut Ip<F>, to: &Tuple<F::Addr>, addresses: u32, ports: u32)
where
    F: Family,
    P: Packet,
{
    F::put_addresses(packet, ETH_LEN, to.src, to.dst, addresses);
    if F::IS_V6 {
        // Where an upper checksum makes up for them, too: what follows takes an IP header to have one of its own.
        packet.addresses_changed(addresses);
    }
    (ip.src, ip.dst) = (to.src, to.dst);
    // The checksum of a fragmented packet is in its first fragment, and covers all of them.
    if ip.fragment == Fragment::Later {
        return;
    }
    if ports != 0 {
        write_ports(packet, ip, to);
    }
    if let Some((at, pseudo)) = checksum_at::<F>(ip.protocol) {
        let addresses = if pseudo { addresses } else { 0 };
        packet.upper_changed(ip.payload() + at, addresses, ports, ip.protocol == protocol::UDP);
    }
}

/// Where a protocol's checksum is, in bytes from its header, and whether that covers addresses.
///
/// SCTP's covers no address, and its ports are left alone: it is a CRC over the whole packet.
#[inline(always)]
#[must_use]
pub const fn checksum_at<F: Family>(protocol: u8) -> Option<(usize, bool)> {
    match protocol {
        protocol::TCP => Some((16, true)),
        protocol::UDP => Some((6, true)),
        protocol::ICMP => Some((2, false)),
        protocol::ICMPV6 => Some((2, true)),
        _ => None,
    }
}

/// What new addresses change in a sum.
#[inline(always)]
pub fn address_change<F: Family>(from: &Tuple<F::Addr>, to: &Tuple<F::Addr>) -> u32 {
    checksum::difference(F::sum(from.src) + F::sum(from.dst), F::sum(to.src) + F::sum(to.dst))
}

/// What new ports change in a sum; zero if they are the same.
#[inline(always)]
pub fn port_change<A>(from: &Tuple<A>, to: &Tuple<A>) -> u32 {
    if from.protocol == protocol::SCTP || (from.src_port == to.src_port && from.dst_port == to.dst_port) {
        return 0;
    }
    let sum = |tuple: &Tuple<A>| checksum::word(tuple.src_port) + checksum::word(tuple.dst_port);
    checksum::difference(sum(from), sum(to))
}

/// Writes the ports, or the identifier of an ICMP echo.
#[inline(always)]
pub fn write_ports<F: Family, P: Packet>(packet: &mut P, ip: &Ip<F>, to: &Tuple<F::Addr>) {
    let ([a, b], [c, d]) = (to.src_port, to.dst_port);
    if ip.protocol != F::ICMP {
        if let Some(ports) = packet.at_mut::<Ports>(ip.payload()) {
            *ports = [a, b, c, d];
        }
    } else if let Some(id) = packet.at_mut::<[u8; 2]>(ip.payload() + ICMP_ID) {
        // One of them is zero.
        *id = [a | c, b | d];
    }
}
