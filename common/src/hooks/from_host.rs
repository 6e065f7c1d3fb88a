//! TC egress of the gateway device: what the node's own stack sends to pods, or forwards to them.

use crate::{
    counters::Reason,
    family::{Family, Ip, V4, V6},
    forward::{self, Origin},
    icmp::{self, Answer},
    maps::route_kind,
    settle::{act, drop},
    tables::{Dataplane, Tables},
    verdict::{Action, Refusal},
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that the node's stack hands to the gateway device.
#[inline(always)]
pub fn from_host<D: Dataplane>(packet: &mut D) -> D::Done {
    let Some(eth) = packet.at::<Eth>(0) else { return drop(packet, Reason::Malformed) };
    match eth.ether_type {
        ether_type::IPV4 => match V4::parse(packet, ETH_LEN) {
            Some(mut ip) => routed(packet, &mut ip),
            None => drop(packet, Reason::Malformed),
        },
        ether_type::IPV6 => match V6::parse(packet, ETH_LEN) {
            Some(mut ip) => routed(packet, &mut ip),
            None => drop(packet, Reason::Malformed),
        },
        _ => drop(packet, Reason::NotIp),
    }
}

#[inline(always)]
fn routed<F, D>(packet: &mut D, ip: &mut Ip<F>) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let refusal = match route(packet, ip) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    let Refusal::Answer(reason, trouble) = refusal else {
        return refusal.discard(packet);
    };
    // Not from the gateway: its address is the node's own, and a stack takes no packet from itself off a device.
    let unreachable = ip.dst;
    match icmp::answer(packet, ip, &unreachable, trouble) {
        Answer::Ready => act(packet, reason, Action::Host),
        Answer::Withheld => drop(packet, reason),
        Answer::Failed => drop(packet, Reason::HelperFailed),
    }
}

#[inline(always)]
fn route<F, D>(packet: &mut D, ip: &Ip<F>) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    if F::is_multicast(ip.dst) {
        return Err(Reason::Multicast.into());
    }
    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        // The last hop's addresses are `to_pod`'s to write: it sees the packet next.
        return Ok(act(packet, Reason::ToPod, Action::Device { ifindex: pod.ifindex }));
    }
    let route = Tables::<F>::route(packet, &ip.dst).ok_or(Reason::NoRoute)?;
    match route.kind {
        route_kind::LOCAL => Err(Reason::NoSuchPod.into()),
        _ if route.is_peer() => forward::to_peer(packet, ip, route, Origin::Node),
        _ => Err(Reason::NoRoute.into()),
    }
}
