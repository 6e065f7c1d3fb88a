//! Where a packet goes once its destination is known.

use network_types::udp::UdpHdr;

use crate::{
    counters::Reason,
    family::{Family, Ip, V4, V6},
    icmp,
    maps::{Endpoint, Route, route_kind},
    node::Node,
    packet::Packet,
    tables::{Account, Dataplane, Neighbour, NextHop, Tables, Underlay},
    verdict::{Action, Refusal, Verdict},
    vxlan,
    wire::{ETH_LEN, Eth, protocol},
};

/// Whether the node takes a hop off the packet: a packet that its own stack sends has paid already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The node routes it.
    Taken,
    /// The node sends it.
    Free,
}

/// To a pod of this node: the Ethernet header is the last hop's, the pod's own end of the veth receives it.
#[inline(always)]
pub fn to_pod<D: Dataplane>(packet: &mut D, pod: &Endpoint) -> Verdict {
    address(packet, pod.mac);
    let len = packet.len();
    packet.account(Account::PodRx(pod.slot), len);
    Verdict::new(Reason::ToPod, Action::Pod { ifindex: pod.ifindex })
}

/// To the node's own stack, addressed to the gateway device.
#[inline(always)]
pub fn to_host<D: Dataplane>(packet: &mut D, reason: Reason) -> Verdict {
    let mac = packet.node().mac();
    address(packet, mac);
    Verdict::new(reason, Action::Host)
}

/// To a peer, encapsulated or not, as its route says.
///
/// # Errors
///
/// Too big for the path, no hop left, no way to the peer, or a helper's refusal.
#[inline(always)]
pub fn to_peer<F, D>(packet: &mut D, ip: &Ip<F>, route: &Route, hop: Hop) -> Result<Verdict, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    if exceeds(packet, ip, route.mtu) {
        if ip.may_fragment {
            return Ok(to_host(packet, Reason::ToFragment));
        }
        return Err(Refusal::Answer(Reason::TooBig, icmp::Error::TooBig { mtu: route.mtu }));
    }
    let len = packet.len();
    let flow = ip.flow(packet);
    if hop == Hop::Taken {
        F::take_hop(packet, ETH_LEN)?;
    }
    let overlay = route.kind == route_kind::OVERLAY;
    let action = if overlay {
        let inner = vxlan::Inner { ether_type: F::ETHER_TYPE, tos: ip.tos, flow };
        match route.underlay_family {
            6 => vxlan::encapsulate::<V6, D>(packet, route, inner)?,
            _ => vxlan::encapsulate::<V4, D>(packet, route, inner)?,
        }
    } else {
        direct(packet, route, F::ETHER_TYPE)?
    };
    packet.account(Account::PeerTx(route.peer), len);
    Ok(Verdict::new(if overlay { Reason::ToOverlay } else { Reason::ToDirect }, action))
}

/// Asks the node's routing for the way to a peer.
///
/// # Errors
///
/// [`Reason::NoUnderlayRoute`], with the helper's answer counted.
#[inline(always)]
pub fn next_hop<O, D>(packet: &mut D, query: &Underlay<O>) -> Result<NextHop, Refusal>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    match Tables::<O>::next_hop(packet, query) {
        Ok(hop) => Ok(hop),
        Err(failure) => {
            packet.failed(failure);
            Err(Refusal::Drop(Reason::NoUnderlayRoute))
        }
    }
}

/// The Ethernet header of a packet that leaves the node, and what the hook does with it.
#[inline(always)]
#[must_use]
pub fn leave(hop: &NextHop, ether_type: [u8; 2]) -> (Eth, Action) {
    match hop.neighbour {
        Neighbour::Known { dst, src } => {
            (Eth { dst, src, ether_type }, Action::Device { ifindex: hop.ifindex })
        }
        Neighbour::Unknown { address, v6 } => (
            Eth { dst: [0; 6], src: [0; 6], ether_type },
            Action::Neighbour { ifindex: hop.ifindex, address, v6 },
        ),
    }
}

/// To the peer, or to the router on the way to it, as it is.
#[inline(always)]
fn direct<D: Dataplane>(packet: &mut D, route: &Route, ether_type: [u8; 2]) -> Result<Action, Refusal> {
    let hop = match route.underlay_family {
        6 => next_hop(packet, &plain::<V6>(packet.node(), route))?,
        _ => next_hop(packet, &plain::<V4>(packet.node(), route))?,
    };
    let (eth, action) = leave(&hop, ether_type);
    if let Some(header) = packet.at_mut::<Eth>(0) {
        *header = eth;
    }
    Ok(action)
}

/// The question without ports: a router on the way sees the pods' own.
#[inline(always)]
fn plain<O: Family>(node: &Node, route: &Route) -> Underlay<O> {
    Underlay {
        source: O::underlay(node),
        destination: O::from_route(&route.underlay),
        source_port: [0; 2],
        destination_port: [0; 2],
        tos: 0,
    }
}

/// Whether a path of that MTU does not take the packet; of a GSO packet, its segments.
#[inline(always)]
fn exceeds<F: Family, P: Packet>(packet: &P, ip: &Ip<F>, mtu: u32) -> bool {
    if ip.len <= mtu as usize {
        return false;
    }
    match packet.gso_size() {
        0 => true,
        size => ip.payload - ETH_LEN + upper_header_len(packet, ip) + size as usize > mtu as usize,
    }
}

/// Length of the header that every segment of a GSO packet gets anew, behind the IP header.
#[inline(always)]
fn upper_header_len<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> usize {
    /// Where TCP has its data offset, in units of 4 bytes, in the high half of a byte (RFC 9293, section 3.1).
    const DATA_OFFSET: usize = 12;
    match ip.protocol {
        protocol::TCP => packet.at::<u8>(ip.payload + DATA_OFFSET).map_or(0, |byte| usize::from(byte >> 4) * 4),
        _ => size_of::<UdpHdr>(),
    }
}

/// Last-hop addresses: from the gateway to `dst`.
#[inline(always)]
fn address<D: Dataplane>(packet: &mut D, dst: [u8; 6]) {
    let src = packet.node().mac();
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        eth.dst = dst;
        eth.src = src;
    }
}

