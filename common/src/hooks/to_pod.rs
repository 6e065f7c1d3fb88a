//! TC egress of a pod's host-side veth: what reaches the pod through the gateway device, or straight from the node's stack.

use super::settle;
use crate::{
    counters::Reason,
    family::{Family, V4, V6},
    forward,
    tables::{Dataplane, Tables},
    verdict::{Action, Verdict},
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that is about to cross to a pod.
#[inline(always)]
pub fn to_pod<D: Dataplane>(packet: &mut D) -> Action {
    let len = packet.len();
    let verdict = decide(packet);
    settle(packet, len, verdict)
}

#[inline(always)]
fn decide<D: Dataplane>(packet: &mut D) -> Verdict {
    match packet.at::<Eth>(0).map(|eth| eth.ether_type) {
        Some(ether_type::IPV4) => last_hop::<V4, D>(packet),
        Some(ether_type::IPV6) => last_hop::<V6, D>(packet),
        _ => Verdict::new(Reason::Foreign, Action::Continue),
    }
}

/// What is addressed to the pod gets its MAC and is counted; anything else is between the node and the pod.
#[inline(always)]
fn last_hop<F, D>(packet: &mut D) -> Verdict
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let pod = match F::parse(packet, ETH_LEN) {
        Ok(ip) => Tables::<F>::pod(packet, &ip.dst),
        Err(reason) => return Verdict::drop(reason),
    };
    match pod {
        Some(pod) if pod.ifindex == packet.ifindex() => {
            Verdict::new(forward::to_pod(packet, &pod).reason, Action::Continue)
        }
        _ => Verdict::new(Reason::Foreign, Action::Continue),
    }
}
