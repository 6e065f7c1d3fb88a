//! TC ingress of an uplink: what the underlay sends.

use crate::{
    counters::Reason,
    family::{Family, Ip, V4, V6},
    forward::{self, Origin},
    icmp::{self, Answer},
    maps::route_kind,
    node::feature,
    settle::{act, drop},
    tables::{Account, Dataplane, Tables},
    verdict::{Action, Refusal, Trouble},
    vxlan,
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that an uplink receives.
#[inline(always)]
pub fn from_uplink<D: Dataplane>(packet: &mut D) -> D::Done {
    let tunnel = match arrive(packet) {
        Ok(Some(tunnel)) => tunnel,
        Ok(None) => return act(packet, Reason::Foreign, Action::Continue),
        Err(reason) => return drop(packet, reason),
    };
    let offset = ETH_LEN + tunnel.room;
    match tunnel.ether_type {
        ether_type::IPV4 => match V4::parse(packet, offset) {
            Some(mut ip) => deliver(packet, &mut ip, &tunnel),
            None => drop(packet, Reason::Malformed),
        },
        ether_type::IPV6 => match V6::parse(packet, offset) {
            Some(mut ip) => deliver(packet, &mut ip, &tunnel),
            None => drop(packet, Reason::Malformed),
        },
        _ => drop(packet, Reason::NotIp),
    }
}

/// How a packet came from a peer.
#[derive(Clone, Copy)]
struct Tunnel {
    /// Bytes between the Ethernet header and the pods' IP header: zero if it came as it is.
    room: usize,
    /// Type of service on the outside.
    tos: u8,
    /// EtherType of what is inside, network byte order.
    ether_type: [u8; 2],
    /// The peer's slot.
    peer: u32,
}

/// Whether a packet is from a peer: `None` is anybody else's.
#[inline(always)]
fn arrive<D: Dataplane>(packet: &D) -> Result<Option<Tunnel>, Reason> {
    if packet.has_vlan() {
        return Ok(None);
    }
    match packet.at::<Eth>(0).map(|eth| eth.ether_type) {
        Some(ether_type::IPV4) => over::<V4, D>(packet),
        Some(ether_type::IPV6) => over::<V6, D>(packet),
        _ => Ok(None),
    }
}

#[inline(always)]
fn over<O, D>(packet: &D) -> Result<Option<Tunnel>, Reason>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let Some(ip) = O::parse(packet, ETH_LEN) else { return Ok(None) };
    if let Some(arrival) = vxlan::arrive::<O, D>(packet, &ip)? {
        let vxlan::Arrival { ether_type, peer } = arrival;
        return Ok(Some(Tunnel { room: vxlan::room::<O>(), tos: ip.tos, ether_type, peer }));
    }
    if !packet.node().has(feature::DIRECT) {
        return Ok(None);
    }
    let peer = direct(packet, &ip);
    Ok(peer.map(|peer| Tunnel { room: 0, tos: ip.tos, ether_type: O::ETHER_TYPE, peer }))
}

/// The slot of the direct peer from which this plain packet comes to a pod, or from a pod of which it comes to the node.
/// What the peer's node itself sends to the node is underlay traffic like any other's.
#[inline(always)]
fn direct<F, D>(packet: &D, ip: &Ip<F>) -> Option<u32>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let source = Tables::<F>::route(packet, &ip.src)?;
    if !matches!(source.kind, route_kind::DIRECT | route_kind::DIRECT_NODE) {
        return None;
    }
    match (source.kind, Tables::<F>::route(packet, &ip.dst)?.kind) {
        (_, route_kind::LOCAL) | (route_kind::DIRECT, route_kind::HOST) => Some(source.peer),
        _ => None,
    }
}

/// A packet from a peer, its IP header read but its tunnel still on it: delivered, or refused and its source told.
#[inline(always)]
fn deliver<F, D>(packet: &mut D, ip: &mut Ip<F>, tunnel: &Tunnel) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let len = packet.len() - tunnel.room;
    packet.account(Account::PeerRx(tunnel.peer), len);
    let refusal = match accept(packet, ip, tunnel) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    let Refusal::Answer(reason, trouble) = refusal else {
        return refusal.discard(packet);
    };
    match tell(packet, ip, tunnel, reason, trouble) {
        Ok(done) => done,
        Err(refusal) => refusal.discard(packet),
    }
}

#[inline(always)]
fn accept<F, D>(packet: &mut D, ip: &Ip<F>, tunnel: &Tunnel) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let offset = ETH_LEN + tunnel.room;
    let tos = vxlan::congestion(tunnel.tos, ip.tos)?;
    let pod = Tables::<F>::pod(packet, &ip.dst);
    if pod.is_some() {
        F::take_hop(packet, offset)?;
    } else {
        match Tables::<F>::route(packet, &ip.dst).map(|route| route.kind) {
            Some(route_kind::HOST) => {}
            Some(route_kind::LOCAL) => return Err(Reason::NoSuchPod.into()),
            _ => return Err(Reason::NoRoute.into()),
        }
    }
    if let Some(tos) = tos {
        F::set_tos(packet, offset, tos);
    }
    strip::<F, D>(packet, tunnel)?;
    Ok(match pod {
        Some(pod) => forward::to_pod(packet, &pod, Action::Pod { ifindex: pod.ifindex }),
        None => forward::to_host(packet, Reason::ToHost),
    })
}

/// Takes the tunnel off.
#[inline(always)]
fn strip<F: Family, D: Dataplane>(packet: &mut D, tunnel: &Tunnel) -> Result<(), Refusal> {
    if tunnel.room != 0 {
        packet.decapsulate(tunnel.room, F::IS_V6)?;
        if let Some(eth) = packet.at_mut::<Eth>(0) {
            eth.ether_type = F::ETHER_TYPE;
        }
    }
    Ok(())
}

/// Sends the source an ICMP error, the way that its route says.
#[inline(always)]
fn tell<F, D>(
    packet: &mut D,
    ip: &mut Ip<F>,
    tunnel: &Tunnel,
    reason: Reason,
    trouble: Trouble,
) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    strip::<F, D>(packet, tunnel)?;
    ip.payload -= tunnel.room;
    let gateway = F::gateway(packet.node());
    // From here on `ip` is what the error says of itself.
    match icmp::answer(packet, ip, &gateway, trouble) {
        Answer::Ready => {}
        Answer::Withheld => return Err(Refusal::Drop(reason)),
        Answer::Failed => return Err(Reason::HelperFailed.into()),
    }
    match Tables::<F>::route(packet, &ip.dst) {
        Some(route) if route.is_peer() => forward::to_peer(packet, ip, route, Origin::Answer(reason)),
        _ => Err(Refusal::Drop(reason)),
    }
}
