//! TC egress of a pod's host-side veth: what reaches the pod through the gateway device, or straight from the node's stack.

use crate::{
    counters::Reason,
    family::{Family, V4, V6},
    forward,
    settle::{act, drop},
    tables::{Dataplane, Tables},
    verdict::Action,
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that is about to cross to a pod.
#[inline(always)]
pub fn to_pod<D: Dataplane>(packet: &mut D) -> D::Done {
    match packet.at::<Eth>(0).map(|eth| eth.ether_type) {
        Some(ether_type::IPV4) => last_hop::<V4, D>(packet),
        Some(ether_type::IPV6) => last_hop::<V6, D>(packet),
        _ => act(packet, Reason::Foreign, Action::Continue),
    }
}

/// What is addressed to the pod gets its MAC and is counted; anything else is between the node and the pod.
#[inline(always)]
fn last_hop<F, D>(packet: &mut D) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let pod = match F::parse(packet, ETH_LEN) {
        Some(ip) => Tables::<F>::pod(packet, &ip.dst),
        None => return drop(packet, Reason::Malformed),
    };
    match pod {
        Some(pod) if pod.ifindex == packet.ifindex() => forward::to_pod(packet, &pod, Action::Continue),
        _ => act(packet, Reason::Foreign, Action::Continue),
    }
}
