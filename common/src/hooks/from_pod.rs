//! TC ingress of a pod's host-side veth: what the pod sends.

use super::{discard, settle};
use crate::{
    arp,
    counters::Reason,
    family::{Family, Ip, V4, V6},
    forward::{self, Hop},
    icmp, ndp,
    maps::route_kind,
    tables::{Account, Dataplane, Tables},
    verdict::{Action, Refusal, Verdict},
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that a pod sends.
#[inline(always)]
pub fn from_pod<D: Dataplane>(packet: &mut D) -> Action {
    let len = packet.len();
    let verdict = decide(packet);
    settle(packet, len, verdict)
}

#[inline(always)]
fn decide<D: Dataplane>(packet: &mut D) -> Verdict {
    if packet.has_vlan() {
        return Verdict::drop(Reason::Vlan);
    }
    let Some(eth) = packet.at::<Eth>(0) else { return Verdict::drop(Reason::Malformed) };
    match eth.ether_type {
        ether_type::IPV4 => match V4::parse(packet, ETH_LEN) {
            Ok(ip) => routed(packet, &ip),
            Err(reason) => Verdict::drop(reason),
        },
        ether_type::IPV6 => match V6::parse(packet, ETH_LEN) {
            Ok(ip) => ndp::answer(packet, &ip).unwrap_or_else(|| routed(packet, &ip)),
            Err(reason) => Verdict::drop(reason),
        },
        ether_type::ARP => arp::answer(packet),
        _ => Verdict::drop(Reason::NotIp),
    }
}

/// An IP packet: sent on, or refused and the pod told.
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
    let gateway = F::gateway(packet.node());
    match icmp::answer(packet, ip, gateway, error) {
        Ok(Some(_)) => Verdict::new(reason, Action::Pod { ifindex: packet.ifindex() }),
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
    let slot = sender(packet, ip)?;
    let len = packet.len();
    packet.account(Account::PodTx(slot), len);

    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        F::take_hop(packet, ETH_LEN)?;
        return Ok(forward::to_pod(packet, &pod));
    }
    let Some(route) = Tables::<F>::route(packet, &ip.dst) else {
        return Ok(forward::to_host(packet, Reason::ToOutside));
    };
    match route.kind {
        route_kind::HOST => Ok(forward::to_host(packet, Reason::ToHost)),
        route_kind::LOCAL => Err(Reason::NoSuchPod.into()),
        _ => forward::to_peer(packet, ip, &route, Hop::Taken),
    }
}

/// The slot of the pod behind this device, if the packet's source address is its own or allowed to it.
#[inline(always)]
fn sender<F, D>(packet: &D, ip: &Ip<F>) -> Result<u32, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let ifindex = packet.ifindex();
    match Tables::<F>::pod(packet, &ip.src) {
        Some(pod) if pod.ifindex == ifindex => Ok(pod.slot),
        Some(_) => Err(Reason::Spoofed.into()),
        None => match Tables::<F>::allowed(packet, ifindex, &ip.src) {
            Some(allowed) => Ok(allowed.slot),
            None => Err(Reason::Spoofed.into()),
        },
    }
}
