//! TC ingress of an uplink: what the underlay sends.

use super::{discard, settle};
use crate::{
    counters::Reason,
    family::{Family, Ip, V4, V6},
    forward::{self, Hop},
    icmp,
    maps::route_kind,
    node::feature,
    tables::{Account, Dataplane, Tables},
    verdict::{Action, Refusal, Verdict},
    vxlan,
    wire::{ETH_LEN, Eth, ether_type},
};

/// Left as it is.
const FOREIGN: Verdict = Verdict::new(Reason::Foreign, Action::Continue);

/// Decides what becomes of a packet that an uplink receives.
#[inline(always)]
pub fn from_uplink<D: Dataplane>(packet: &mut D) -> Action {
    let len = packet.len();
    let verdict = decide(packet);
    settle(packet, len, verdict)
}

#[inline(always)]
fn decide<D: Dataplane>(packet: &mut D) -> Verdict {
    if packet.has_vlan() {
        return FOREIGN;
    }
    let Some(eth) = packet.at::<Eth>(0) else { return FOREIGN };
    match eth.ether_type {
        ether_type::IPV4 => underlay::<V4, D>(packet),
        ether_type::IPV6 => underlay::<V6, D>(packet),
        _ => FOREIGN,
    }
}

#[inline(always)]
fn underlay<O, D>(packet: &mut D) -> Verdict
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let arrival = match vxlan::arrive::<O, D>(packet) {
        Ok(Some(arrival)) => arrival,
        Ok(None) if packet.node().has(feature::DIRECT) => return direct::<O, D>(packet),
        Ok(None) => return FOREIGN,
        Err(reason) => return Verdict::drop(reason),
    };
    let tunnel = Tunnel { room: vxlan::room::<O>(), tos: arrival.tos, peer: arrival.peer };
    let offset = ETH_LEN + tunnel.room;
    match arrival.ether_type {
        ether_type::IPV4 => match V4::parse(packet, offset) {
            Ok(ip) => deliver(packet, &ip, &tunnel),
            Err(reason) => Verdict::drop(reason),
        },
        ether_type::IPV6 => match V6::parse(packet, offset) {
            Ok(ip) => deliver(packet, &ip, &tunnel),
            Err(reason) => Verdict::drop(reason),
        },
        _ => Verdict::drop(Reason::NotIp),
    }
}

/// How a packet came: `room` is zero if without a tunnel.
#[derive(Clone, Copy)]
struct Tunnel {
    room: usize,
    tos: u8,
    peer: u32,
}

/// A plain packet: ours if a direct peer's pod sends it to a pod or to the node. What the peer's node itself sends to the
/// node is underlay traffic like any other's.
#[inline(always)]
fn direct<F, D>(packet: &mut D) -> Verdict
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let Ok(ip) = F::parse(packet, ETH_LEN) else { return FOREIGN };
    let Some(source) = Tables::<F>::route(packet, &ip.src) else { return FOREIGN };
    if source.kind != route_kind::DIRECT || ip.src == F::from_route(&source.underlay) {
        return FOREIGN;
    }
    let for_us = Tables::<F>::route(packet, &ip.dst)
        .is_some_and(|route| matches!(route.kind, route_kind::HOST | route_kind::LOCAL));
    if !for_us {
        return FOREIGN;
    }
    deliver(packet, &ip, &Tunnel { room: 0, tos: ip.tos, peer: source.peer })
}

/// A packet from a peer, its IP header read but its tunnel still on it: delivered, or refused and its source told.
#[inline(always)]
fn deliver<F, D>(packet: &mut D, ip: &Ip<F>, tunnel: &Tunnel) -> Verdict
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
    let Refusal::Answer(reason, error) = refusal else { return discard(packet, refusal) };
    match tell(packet, ip, tunnel, error) {
        Ok(action) => Verdict::new(reason, action),
        Err(refusal) => discard(packet, refusal),
    }
}

#[inline(always)]
fn accept<F, D>(packet: &mut D, ip: &Ip<F>, tunnel: &Tunnel) -> Result<Verdict, Refusal>
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
        Some(pod) => forward::to_pod(packet, &pod),
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
fn tell<F, D>(packet: &mut D, ip: &Ip<F>, tunnel: &Tunnel, error: icmp::Error) -> Result<Action, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    strip::<F, D>(packet, tunnel)?;
    let stripped = Ip { payload: ip.payload - tunnel.room, ..*ip };
    let gateway = F::gateway(packet.node());
    let Some(reply) = icmp::answer(packet, &stripped, gateway, error)? else { return Ok(Action::Drop) };
    match Tables::<F>::route(packet, &reply.dst) {
        Some(route) if matches!(route.kind, route_kind::OVERLAY | route_kind::DIRECT) => {
            Ok(forward::to_peer(packet, &reply, &route, Hop::Free)?.action)
        }
        _ => Ok(Action::Drop),
    }
}
