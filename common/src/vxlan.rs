//! VXLAN (RFC 7348): the tunnel headers, written and checked by hand.

use network_types::{udp::UdpHdr, vxlan::VxlanHdr};

use crate::{
    counters::Reason,
    family::{Family, Fragment},
    flow, forward,
    maps::Route,
    tables::{Dataplane, Tables, Underlay},
    verdict::{Action, Refusal},
    wire::{ETH_LEN, Eth, Wire, protocol},
};

/// The I flag: the VNI is valid.
const VNI_VALID: u8 = 0x08;

/// A whole tunnel packet up to the inner IP header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tunnel<H: Wire> {
    eth: Eth,
    ip: H,
    udp: UdpHdr,
    vxlan: VxlanHdr,
    inner: Eth,
}

// SAFETY: `repr(C)` of types with alignment 1 that are valid for any bits.
unsafe impl<H: Wire> Wire for Tunnel<H> {}

/// Bytes that a tunnel adds between the Ethernet header and the inner IP header: 50 over IPv4, 70 over IPv6.
#[inline(always)]
#[must_use]
pub const fn room<O: Family>() -> usize {
    size_of::<Tunnel<O::Header>>() - ETH_LEN
}

/// What of a packet shows on the outside of its tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// EtherType of the packet, network byte order.
    pub ether_type: [u8; 2],
    /// Its type of service, copied outward whole: DSCP for the underlay's queues, ECN as RFC 6040, section 4.1, normal
    /// mode.
    pub tos: u8,
    /// Hash of its flow.
    pub flow: u32,
}

/// Puts the packet, which starts with an Ethernet header, into VXLAN to the route's peer.
///
/// The outer UDP checksum is zero over both families: a GSO packet's could only be computed per segment, by whoever
/// cuts it (RFC 6935 allows it over IPv6; a kernel VTEP there must be told with `udp6zerocsumrx`).
///
/// # Errors
///
/// No way to the peer, or a helper's refusal.
#[inline(always)]
pub fn encapsulate<O, D>(packet: &mut D, route: &Route, inner: Inner) -> Result<Action, Refusal>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let node = packet.node();
    let source = O::underlay(node);
    let destination = O::from_route(&route.underlay);
    let source_port = flow::source_port(inner.flow);
    let destination_port = node.port();
    let query = Underlay::<O> { source, destination, source_port, destination_port, tos: inner.tos };
    let hop = forward::next_hop(packet, &query)?;
    let udp_len = size_of::<UdpHdr>() + size_of::<VxlanHdr>() + packet.len();

    packet.encapsulate(room::<O>(), O::IS_V6)?;
    let (eth, action) = forward::leave(&hop, O::ETHER_TYPE);
    let tunnel = packet.at_mut::<Tunnel<O::Header>>(0).ok_or(Reason::Malformed)?;
    tunnel.eth = eth;
    tunnel.ip = O::header(source, destination, protocol::UDP, inner.tos, udp_len);
    tunnel.udp = UdpHdr {
        src: source_port,
        dst: destination_port,
        // As for the IP header: a GSO packet's lengths are written per segment, by whoever cuts it.
        len: (udp_len as u16).to_be_bytes(),
        check: [0; 2],
    };
    tunnel.vxlan =
        VxlanHdr { flags: VNI_VALID, _reserved1: [0; 3], vni: node.vni(), _reserved2: 0 };
    tunnel.inner = Eth { dst: route.vtep_mac, src: node.mac(), ether_type: inner.ether_type };
    Ok(action)
}

/// A tunnel packet for this node from a peer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Type of service on the outside.
    pub tos: u8,
    /// EtherType of what is inside, network byte order.
    pub ether_type: [u8; 2],
    /// The peer's slot.
    pub peer: u32,
}

/// Checks a packet from the underlay. Nothing is changed.
///
/// Whatever is not VXLAN to this node with its VNI is nobody's business here: `None`. An outer header with options or
/// extensions and an outer fragment are that too: no VTEP sends them.
///
/// # Errors
///
/// What claims to be ours and is not valid.
#[inline(always)]
pub fn arrive<O, D>(packet: &D) -> Result<Option<Arrival>, Reason>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let node = packet.node();
    let Ok(ip) = O::parse(packet, ETH_LEN) else { return Ok(None) };
    let plain = ip.payload == ETH_LEN + O::HEADER_LEN && ip.fragment == Fragment::No;
    if ip.protocol != protocol::UDP || !plain || ip.dst != O::underlay(node) {
        return Ok(None);
    }
    let Some(tunnel) = packet.at::<Tunnel<O::Header>>(0) else { return Ok(None) };
    let ours = tunnel.udp.dst == node.port()
        && tunnel.vxlan.flags & VNI_VALID != 0
        && tunnel.vxlan.vni == node.vni();
    if !ours {
        return Ok(None);
    }
    let udp_len = usize::from(u16::from_be_bytes(tunnel.udp.len));
    let least = size_of::<UdpHdr>() + size_of::<VxlanHdr>() + ETH_LEN;
    let most = ip.len - O::HEADER_LEN;
    // Of a GSO packet the length fields are whatever its maker left there.
    if packet.gso_size() == 0 && (udp_len < least || udp_len > most) {
        return Err(Reason::Malformed);
    }
    if tunnel.inner.dst != node.mac() {
        return Err(Reason::NotOurMac);
    }
    let ether_type = tunnel.inner.ether_type;
    let vtep = Tables::<O>::vtep(packet, &ip.src).ok_or(Reason::UnknownVtep)?;
    Ok(Some(Arrival { tos: ip.tos, ether_type, peer: vtep.peer }))
}

/// ECN bits of the type of service (RFC 3168, section 5).
const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The inner type of service after decapsulation, if it changes (RFC 6040, figure 4).
///
/// # Errors
///
/// [`Reason::Ecn`] where a mark can only be told by losing the packet.
#[inline(always)]
pub fn congestion(outer: u8, inner: u8) -> Result<Option<u8>, Reason> {
    match (outer & ECN, inner & ECN) {
        (CE, NOT_ECT) => Err(Reason::Ecn),
        (CE, ECT_0 | ECT_1) => Ok(Some(inner | CE)),
        (ECT_1, ECT_0) => Ok(Some((inner & !ECN) | ECT_1)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OV-9, RFC 6040 figure 4, every cell.
    #[test]
    fn congestion_follows_rfc_6040() {
        let dscp = 0b1011_1000;
        for (outer, inner, expected) in [
            (NOT_ECT, NOT_ECT, Ok(NOT_ECT)),
            (ECT_0, NOT_ECT, Ok(NOT_ECT)),
            (ECT_1, NOT_ECT, Ok(NOT_ECT)),
            (CE, NOT_ECT, Err(Reason::Ecn)),
            (NOT_ECT, ECT_0, Ok(ECT_0)),
            (ECT_0, ECT_0, Ok(ECT_0)),
            (ECT_1, ECT_0, Ok(ECT_1)),
            (CE, ECT_0, Ok(CE)),
            (NOT_ECT, ECT_1, Ok(ECT_1)),
            (ECT_0, ECT_1, Ok(ECT_1)),
            (ECT_1, ECT_1, Ok(ECT_1)),
            (CE, ECT_1, Ok(CE)),
            (NOT_ECT, CE, Ok(CE)),
            (ECT_0, CE, Ok(CE)),
            (ECT_1, CE, Ok(CE)),
            (CE, CE, Ok(CE)),
        ] {
            let result = congestion(outer, dscp | inner).map(|changed| changed.unwrap_or(dscp | inner));
            assert_eq!(result, expected.map(|ecn| dscp | ecn), "outer {outer:02b} inner {inner:02b}");
        }
    }

    #[test]
    fn overheads_are_those_of_the_rfc() {
        assert_eq!(room::<crate::family::V4>(), 50);
        assert_eq!(room::<crate::family::V6>(), 70);
    }
}
