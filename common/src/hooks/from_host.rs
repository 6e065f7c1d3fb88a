//! TC egress of the gateway device: what the node's own stack sends to pods, or forwards to them.

use super::{discard, settle};
use crate::{
    counters::Reason,
    family::{Family, Ip, V4, V6},
    forward::{self, Hop},
    icmp,
    maps::route_kind,
    tables::{Dataplane, Tables},
    verdict::{Action, Refusal, Verdict},
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that the node's stack hands to the gateway device.
#[inline(always)]
pub fn from_host<D: Dataplane>(packet: &mut D) -> Action {
    let len = packet.len();
    let verdict = decide(packet);
    settle(packet, len, verdict)
}

#[inline(always)]
fn decide<D: Dataplane>(packet: &mut D) -> Verdict {
    let Some(eth) = packet.at::<Eth>(0) else { return Verdict::drop(Reason::Malformed) };
    match eth.ether_type {
        ether_type::IPV4 => match V4::parse(packet, ETH_LEN) {
            Ok(ip) => routed(packet, &ip),
            Err(reason) => Verdict::drop(reason),
        },
        ether_type::IPV6 => match V6::parse(packet, ETH_LEN) {
            Ok(ip) => routed(packet, &ip),
            Err(reason) => Verdict::drop(reason),
        },
        _ => Verdict::drop(Reason::NotIp),
    }
}

#[inline(always)]
fn routed<F, D>(packet: &mut D, ip: &Ip<F>) -> Verdict
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let refusal = match route(packet, ip) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    let Refusal::Answer(reason, error) = refusal else { return discard(packet, refusal) };
    // Not from the gateway: its address is the node's own, and a stack takes no packet from itself off a device.
    match icmp::answer(packet, ip, ip.dst, error) {
        Ok(Some(_)) => Verdict::new(reason, Action::Host),
        Ok(None) => Verdict::drop(reason),
        Err(failure) => discard(packet, failure.into()),
    }
}

#[inline(always)]
fn route<F, D>(packet: &mut D, ip: &Ip<F>) -> Result<Verdict, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    if F::is_multicast(&ip.dst) {
        return Err(Reason::Multicast.into());
    }
    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        // The last hop's addresses are `to_pod`'s to write: it sees the packet next.
        return Ok(Verdict::new(Reason::ToPod, Action::Device { ifindex: pod.ifindex }));
    }
    let route = Tables::<F>::route(packet, &ip.dst).ok_or(Reason::NoRoute)?;
    match route.kind {
        route_kind::LOCAL => Err(Reason::NoSuchPod.into()),
        route_kind::OVERLAY | route_kind::DIRECT => forward::to_peer(packet, ip, &route, Hop::Free),
        _ => Err(Reason::NoRoute.into()),
    }
}
