//! Where a packet goes once its destination is known.

use network_types::udp::UdpHdr;

use crate::{
    counters::Reason,
    family::{Family, Ip, V4, V6},
    flow,
    hops::{self, Way},
    maps::{Endpoint, Route, route_kind},
    node::Node,
    packet::{Failed, Packet},
    settle::{act, drop},
    tables::{Account, Dataplane, Tables, Underlay},
    verdict::{Action, Refusal, Trouble},
    vxlan,
    wire::{ETH_LEN, Eth, Mac, protocol},
};

/// Whose packet goes to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod's, which the node routes: that takes a hop.
    Pod,
    /// Somebody's outside, who is handed on: as a pod's, but the node's stack would take it for its own.
    Client,
    /// The node's own stack's, which has paid for its hop.
    Node,
    /// Ours, in answer to a packet that is to be counted under that reason.
    Answer(Reason),
}

/// The route that a packet takes; none leads outside the cluster.
///
/// An answer from one of this node's own addresses to one of a peer's has none, though a pod's packet to the same address goes in the
/// tunnel: a service was called here, the call came as a plain packet, and there a strict `rp_filter` of the peer's kernel expects the
/// answer (RFC 3704, section 2.2).
#[inline(always)]
pub fn route<F, D>(packet: &D, ip: &Ip<F>) -> Option<&'static Route>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let route = Tables::<F>::route(packet, &ip.dst)?;
    if route.kind == route_kind::OVERLAY_NODE && is_own(packet, ip) { None } else { Some(route) }
}

/// Whether a packet's source is an address of this node. The pods' gateway is none of those: what it answers came through the tunnel.
#[inline(never)]
fn is_own<F, D>(packet: &D, ip: &Ip<F>) -> bool
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    ip.src != F::gateway(packet.node())
        && Tables::<F>::route(packet, &ip.src).is_some_and(|source| source.kind == route_kind::HOST)
}

/// To a pod of this node, by `action`: the Ethernet header becomes the last hop's, and the pod's counters count.
#[inline(always)]
pub fn to_pod<D: Dataplane>(packet: &mut D, pod: &Endpoint, action: Action) -> D::Done {
    arrive_at(packet, pod);
    act(packet, Reason::ToPod, action)
}

/// Makes a packet's Ethernet header that of the last hop to a pod of this node, and counts it for the pod.
#[inline(always)]
pub fn arrive_at<D: Dataplane>(packet: &mut D, pod: &Endpoint) {
    address(packet, &pod.mac);
    let len = packet.len();
    packet.account(Account::PodRx(pod.slot), len);
}

/// To the node's own stack, addressed to the gateway device.
#[inline(always)]
pub fn to_host<D: Dataplane>(packet: &mut D, reason: Reason) -> D::Done {
    address(packet, &packet.node().mac);
    act(packet, reason, Action::Host)
}

/// To the node's own stack, a packet that has been translated: if it has one of the node's own addresses as its source now, the
/// stack takes it from the loopback device only.
#[inline(always)]
pub fn back_to_host<F, D>(packet: &mut D, ip: &Ip<F>) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    match Tables::<F>::route(packet, &ip.src) {
        Some(route) if route.kind == route_kind::HOST => {
            // The loopback device has no address, and takes what is addressed to another for somebody else's.
            if let Some(eth) = packet.at_mut::<Eth>(0) {
                let none = Mac::load(&[0; 6]);
                none.store(&mut eth.dst);
                none.store(&mut eth.src);
            }
            act(packet, Reason::ToHost, Action::Loopback)
        }
        _ => to_host(packet, Reason::ToHost),
    }
}

/// To a peer, encapsulated or not, as its route says.
///
/// # Errors
///
/// Too big for the path, or no hop left.
#[inline(always)]
pub fn to_peer<F, D>(
    packet: &mut D,
    ip: &Ip<F>,
    route: &'static Route,
    origin: Origin,
) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane,
{
    let mtu = route.mtu.into();
    if exceeds(packet, ip, mtu) {
        // What the node's stack sends, it has had its chance to fragment.
        if ip.may_fragment && origin == Origin::Pod {
            return Ok(to_host(packet, Reason::ToFragment));
        }
        return Err(Refusal::Answer(Reason::TooBig, Trouble::TooBig { mtu }));
    }
    let flow = ip.flow(packet);
    if matches!(origin, Origin::Pod | Origin::Client) {
        F::take_hop(packet, ETH_LEN)?;
    }
    let overlay = route.is_overlay();
    let reason = match origin {
        Origin::Answer(reason) => reason,
        _ if overlay => Reason::ToOverlay,
        _ => Reason::ToDirect,
    };
    let departure = Departure { route, overlay, flow, ether_type: F::ETHER_TYPE, tos: ip.tos, reason };
    Ok(depart(packet, &departure))
}

/// A packet, an IP packet behind an Ethernet header, on its way to a peer.
struct Departure {
    /// The way.
    route: &'static Route,
    /// Whether that is in VXLAN. Found out once: the verifier learns nothing of `kind` from a test of some of its bits.
    overlay: bool,
    /// Hash of its flow.
    flow: u32,
    /// EtherType of the packet, network byte order.
    ether_type: [u8; 2],
    /// Its type of service.
    tos: u8,
    /// What it is counted as once it is off.
    reason: Reason,
}

/// Sends a packet off.
///
/// A function of its own in the program too: it is the largest piece of every hook and the same for both families.
#[inline(never)]
fn depart<D: Dataplane>(packet: &mut D, departure: &Departure) -> D::Done {
    let sent = match departure.route.underlay_family {
        6 => send::<V6, D>(packet, departure),
        _ => send::<V4, D>(packet, departure),
    };
    match sent {
        Ok(done) => done,
        Err(reason) => drop(packet, reason),
    }
}

/// Over an underlay of family `O`: the peer's address leads there, whether it is the tunnel's other end or the router to
/// its pods.
#[inline(always)]
fn send<O, D>(packet: &mut D, departure: &Departure) -> Result<D::Done, Reason>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let Departure { route, overlay, .. } = *departure;
    let query = underlay::<O>(packet.node(), departure);
    let way = match hops::to_peer(packet, &query, route, departure.flow) {
        Ok(way) => way,
        Err(failure) => {
            packet.failed(failure);
            return Err(Reason::NoUnderlayRoute);
        }
    };
    let len = packet.len();
    if overlay {
        vxlan::encapsulate(
            packet,
            &underlay::<O>(packet.node(), departure),
            &route.vtep_mac,
            departure.ether_type,
        )?;
    }
    packet.account(Account::PeerTx(route.peer), len);
    let routed = if overlay { Routed::Anew } else { Routed::Named };
    Ok(leave(packet, &way, routed, departure.reason))
}

/// What leads to the peer. Made where it is needed: kept over a call of the kernel it would be kept on the stack, of which
/// there is little.
#[inline(always)]
fn underlay<O: Family>(node: &Node, departure: &Departure) -> Underlay<O> {
    let Departure { route, overlay, .. } = *departure;
    Underlay {
        source: O::underlay(node),
        destination: O::from_route(&route.underlay),
        source_port: if overlay { flow::source_port(departure.flow) } else { [0; 2] },
        destination_port: if overlay { node.port } else { [0; 2] },
        tos: departure.tos,
    }
}

/// Whether the node's routing has a way to a packet's destination outside the cluster from the address that it is masqueraded with: if
/// not, that is somewhere in the node itself, or nowhere.
#[inline(never)]
pub fn is_outside<F, D>(packet: &mut D, ip: &Ip<F>) -> bool
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let source = F::underlay(packet.node());
    way_outside(packet, ip, source).is_ok()
}

/// To an address outside the cluster, from one of the node's own: not up the stack, which takes no packet with such a source
/// from a device. By the way that the node's routing has for that source, as for an answer of a process of the node itself: of a node with
/// several uplinks the one where the call came in, if its rules say so.
#[inline(never)]
pub fn to_outside<F, D>(packet: &mut D, ip: &Ip<F>, reason: Reason) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    match way_outside(packet, ip, ip.src) {
        Ok(way) => leave(packet, &way, Routed::Anew, reason),
        Err(failure) => {
            packet.failed(failure);
            drop(packet, Reason::NoUnderlayRoute)
        }
    }
}

#[inline(always)]
fn way_outside<F, D>(packet: &mut D, ip: &Ip<F>, source: F::Addr) -> Result<Way, Failed>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let query = Underlay::<F> {
        source,
        destination: ip.dst,
        source_port: [0; 2],
        destination_port: [0; 2],
        tos: ip.tos,
    };
    hops::to_outside(packet, &query)
}

/// Who says where a packet goes that has to wait for its neighbour's MAC.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routed {
    /// The kernel routes it by its own header.
    Anew,
    /// The neighbour is named.
    Named,
}

/// Out of the node: by way of a neighbour whose MAC is known, or for the kernel to resolve. The Ethernet header's
/// addresses are written here, unless the kernel will.
///
/// What a neighbour has to be resolved for waits in the kernel's queue, and is sent by the route that it carries: of a packet
/// from the node's own stack that is still the one to the gateway device. So the kernel routes a tunnel packet anew; a plain
/// one would only be routed back here, and its neighbour is named.
#[inline(always)]
fn leave<D: Dataplane>(packet: &mut D, way: &Way, routed: Routed, reason: Reason) -> D::Done {
    let ifindex = way.hop.ifindex;
    let anew = routed == Routed::Anew;
    let neighbour = &way.hop.neighbour;
    let action = match neighbour.macs() {
        _ if anew && way.recheck => Action::Route { ifindex },
        Some((dst, src)) => {
            if let Some(eth) = packet.at_mut::<Eth>(0) {
                dst.store(&mut eth.dst);
                src.store(&mut eth.src);
            }
            Action::Device { ifindex }
        }
        None if anew => Action::Route { ifindex },
        None => {
            let (address, v6) = neighbour.address();
            Action::Neighbour { ifindex, address, v6 }
        }
    };
    act(packet, reason, action)
}

/// Whether a path of that MTU does not take the packet; of a GSO packet, its segments.
#[inline(always)]
pub fn exceeds<F: Family, P: Packet>(packet: &P, ip: &Ip<F>, mtu: u32) -> bool {
    if ip.len <= mtu as usize {
        return false;
    }
    match packet.gso_size() {
        0 => true,
        size => ip.payload() - ETH_LEN + upper_header_len(packet, ip) + size as usize > mtu as usize,
    }
}

/// Length of the header that every segment of a GSO packet gets anew, behind the IP header.
#[inline(always)]
fn upper_header_len<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> usize {
    /// Where TCP has its data offset, in units of 4 bytes, in the high half of a byte (RFC 9293, section 3.1).
    const DATA_OFFSET: usize = 12;
    match ip.protocol {
        protocol::TCP => {
            packet.at::<u8>(ip.payload() + DATA_OFFSET).map_or(0, |byte| usize::from(byte >> 4) * 4)
        }
        _ => size_of::<UdpHdr>(),
    }
}

/// Last-hop addresses: from the gateway to `dst`.
#[inline(always)]
fn address<D: Dataplane>(packet: &mut D, dst: &[u8; 6]) {
    let node = packet.node();
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        Mac::load(dst).store(&mut eth.dst);
        Mac::load(&node.mac).store(&mut eth.src);
    }
}
