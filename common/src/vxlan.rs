//! VXLAN (RFC 7348): the tunnel headers, written and checked by hand.

use network_types::udp::UdpHdr;

use crate::{
    counters::Reason,
    family::{Family, Fields, Fragment, Ip, TTL},
    node::Node,
    tables::{Dataplane, Tables, Underlay},
    wire::{ETH_LEN, Eth, Mac, Wire, protocol},
};

/// VXLAN header (RFC 7348, section 5), in two words: a copy of three single bytes is a call of `memmove` in a program.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    /// Flags, then three reserved bytes.
    flags: [u8; 4],
    /// VNI in 24 bits, then a reserved byte.
    vni: [u8; 4],
}

// SAFETY: byte arrays only.
unsafe impl Wire for Header {}

/// The I flag: the VNI is valid.
const VNI_VALID: [u8; 4] = [0x08, 0, 0, 0];

/// The node's VNI as a header has it.
#[inline(always)]
const fn vni(node: &Node) -> [u8; 4] {
    let [a, b, c] = node.vni;
    [a, b, c, 0]
}

/// A tunnel packet up to the inner frame.
#[repr(C)]
#[derive(Clone, Copy)]
struct Outer<H: Wire> {
    eth: Eth,
    ip: H,
    udp: UdpHdr,
    vxlan: Header,
}

/// A tunnel packet up to the inner IP header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tunnel<H: Wire> {
    outer: Outer<H>,
    inner: Eth,
}

// SAFETY: `repr(C)` of types with alignment 1 that are valid for any bits.
unsafe impl<H: Wire> Wire for Outer<H> {}
// SAFETY: as above.
unsafe impl<H: Wire> Wire for Tunnel<H> {}

/// Bytes that a tunnel adds between the Ethernet header and the inner IP header: 50 over IPv4, 70 over IPv6.
#[inline(always)]
#[must_use]
pub const fn room<O: Family>() -> usize {
    size_of::<Tunnel<O::Header>>() - ETH_LEN
}

/// Puts the packet, an IP packet of that EtherType behind an Ethernet header, into VXLAN to the VTEP with that MAC.
///
/// The type of service is copied outward whole: DSCP for the underlay's queues, ECN as RFC 6040, section 4.1, normal mode.
///
/// The outer UDP checksum is zero over both families: a GSO packet's could only be computed per segment, by whoever
/// cuts it (RFC 6935 allows it over IPv6; a kernel VTEP there must be told with `udp6zerocsumrx`).
///
/// # Errors
///
/// A helper's refusal, which is counted.
#[inline(always)]
pub fn encapsulate<O, D>(
    packet: &mut D,
    way: &Underlay<O>,
    vtep_mac: &[u8; 6],
    ether_type: [u8; 2],
) -> Result<(), Reason>
where
    O: Family,
    D: Dataplane,
{
    let node = packet.node();
    let udp_len = size_of::<UdpHdr>() + size_of::<Header>() + packet.len();
    if let Err(failure) = packet.encapsulate(room::<O>(), O::IS_V6) {
        packet.failed(failure);
        return Err(Reason::HelperFailed);
    }
    let Tunnel { outer: tunnel, inner } = packet.at_mut::<Tunnel<O::Header>>(0).ok_or(Reason::Malformed)?;
    tunnel.eth.ether_type = O::ETHER_TYPE;
    let fields = Fields {
        src: O::underlay(node),
        dst: way.destination,
        protocol: protocol::UDP,
        tos: way.tos,
        ttl: TTL,
        payload: udp_len,
    };
    O::write(&mut tunnel.ip, &fields);
    tunnel.udp.src = way.source_port;
    tunnel.udp.dst = way.destination_port;
    // As for the IP header: a GSO packet's lengths are written per segment, by whoever cuts it.
    tunnel.udp.len = (udp_len as u16).to_be_bytes();
    tunnel.udp.check = [0; 2];
    tunnel.vxlan.flags = VNI_VALID;
    tunnel.vxlan.vni = vni(node);
    Mac::load(vtep_mac).store(&mut inner.dst);
    Mac::load(&node.mac).store(&mut inner.src);
    inner.ether_type = ether_type;
    Ok(())
}

/// A tunnel packet for this node from a peer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// EtherType of what is inside, network byte order.
    pub ether_type: [u8; 2],
    /// The peer's slot.
    pub peer: u32,
}

/// Checks a packet from the underlay, whose IP header has been read. Nothing is changed.
///
/// Whatever is not VXLAN to this node with its VNI is nobody's business here: `None`. An outer header with options or
/// extensions and an outer fragment are that too: no VTEP sends them.
///
/// # Errors
///
/// What claims to be ours and is not valid.
#[inline(always)]
pub fn arrive<O, D>(packet: &D, ip: &Ip<O>) -> Result<Option<Arrival>, Reason>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let node = packet.node();
    let plain = ip.payload() == ETH_LEN + O::HEADER_LEN && ip.fragment == Fragment::No;
    if ip.protocol != protocol::UDP || !plain || ip.dst != O::underlay(node) {
        return Ok(None);
    }
    let Some(tunnel) = packet.at::<Outer<O::Header>>(0) else { return Ok(None) };
    // Reserved bits are ignored on receipt.
    let [flags, ..] = tunnel.vxlan.flags;
    let [a, b, c, _] = tunnel.vxlan.vni;
    let ours = tunnel.udp.dst == node.port && flags & VNI_VALID[0] != 0 && [a, b, c, 0] == vni(node);
    if !ours {
        return Ok(None);
    }
    let inner = packet.at::<Eth>(size_of::<Outer<O::Header>>()).ok_or(Reason::Malformed)?;
    let udp_len = usize::from(u16::from_be_bytes(tunnel.udp.len));
    let least = size_of::<UdpHdr>() + size_of::<Header>() + ETH_LEN;
    let most = ip.len - O::HEADER_LEN;
    // Of a GSO packet the length fields are whatever its maker left there.
    if packet.gso_size() == 0 && (udp_len < least || udp_len > most) {
        return Err(Reason::Malformed);
    }
    if Mac::load(&inner.dst) != Mac::load(&node.mac) {
        return Err(Reason::NotOurMac);
    }
    let ether_type = inner.ether_type;
    let vtep = Tables::<O>::vtep(packet, &ip.src).ok_or(Reason::UnknownVtep)?;
    Ok(Some(Arrival { ether_type, peer: vtep.peer }))
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
