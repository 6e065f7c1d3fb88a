//! TC egress of the gateway device: what the node's own stack sends to pods and services, or forwards to them. And of the
//! loopback device: what it sends to itself, which may be for a node port of its own.

use super::reply;
use crate::{
    answer::Answer,
    counters::Reason,
    family::{Family, Ip, V4, V6},
    forward::{self, Origin},
    maps::{Route, route_kind},
    nat,
    node::feature,
    settle::{act, drop},
    stage::{Side, Stage, Step},
    tables::{Dataplane, Tables},
    verdict::{Action, Refusal},
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that the node's stack hands to the gateway device.
#[inline(always)]
pub fn from_host<D: Dataplane>(packet: &mut D) -> D::Done {
    let Some(eth) = packet.at::<Eth>(0) else { return unfit(packet, Reason::Malformed) };
    match eth.ether_type {
        ether_type::IPV4 => match V4::parse(packet, ETH_LEN) {
            Some(mut ip) => routed(packet, &mut ip),
            None => unfit(packet, Reason::Malformed),
        },
        ether_type::IPV6 => match V6::parse(packet, ETH_LEN) {
            Some(mut ip) => routed(packet, &mut ip),
            None => unfit(packet, Reason::Malformed),
        },
        _ => unfit(packet, Reason::NotIp),
    }
}

/// What can't be for a pod or a service: of what the node sends to itself, that is none of ours.
#[inline(always)]
fn unfit<D: Dataplane>(packet: &mut D, reason: Reason) -> D::Done {
    match packet.ifindex() {
        LOOPBACK => act(packet, Reason::Foreign, Action::Continue),
        _ => drop(packet, reason),
    }
}

/// Interface index of the loopback device, in every network namespace.
const LOOPBACK: u32 = 1;

#[inline(always)]
fn routed<F, D>(packet: &mut D, ip: &mut Ip<F>) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
{
    let refusal = match route(packet, ip) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    let Refusal::Answer(reason, trouble) = refusal else {
        return refusal.discard(packet);
    };
    if nat::is_on(packet) {
        Stage::<F>::undo(packet, ip);
    }
    // Not from the gateway: its address is the node's own, and a stack takes no packet from itself off a device.
    let unreachable = ip.dst;
    match reply::to_source(packet, ip, &unreachable, trouble) {
        Answer::Ready if packet.ifindex() == LOOPBACK => act(packet, reason, Action::Loopback),
        Answer::Ready => act(packet, reason, Action::Host),
        Answer::Withheld => drop(packet, reason),
        Answer::Failed => drop(packet, Reason::HelperFailed),
    }
}

#[inline(always)]
fn route<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
{
    let mut step = Step::Untouched;
    if nat::concerns(packet, ip) {
        step = Stage::<F>::translate(packet, ip, Side::Host).goes_on()?;
    }
    // What the node sends to itself is none of ours, unless it has called a service.
    let own = packet.ifindex() == LOOPBACK;
    if own && !step.translated() {
        return Ok(act(packet, Reason::Foreign, Action::Continue));
    }
    if F::is_multicast(ip.dst) {
        return Err(Reason::Multicast.into());
    }
    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        if !step.translated() && comes_from_outside(packet, ip) {
            Stage::<F>::inbound(packet, ip).goes_on()?;
        }
        // The last hop's addresses are `to_pod`'s to write: it sees the packet next.
        return Ok(act(packet, Reason::ToPod, Action::Device { ifindex: pod.ifindex }));
    }
    let Some(route) = forward::route(packet, ip) else { return outside(packet, ip, step) };
    match route.kind {
        // The stack has routed it to itself already.
        route_kind::HOST if own => Ok(act(packet, Reason::ToHost, Action::Continue)),
        route_kind::HOST if step.translated() => Ok(forward::back_to_host(packet, ip)),
        route_kind::OUTSIDE => outside(packet, ip, step),
        route_kind::LOCAL => Err(Reason::NoSuchPod.into()),
        route_kind::SERVICE => Err(Reason::NoSuchService.into()),
        _ if route.is_peer() => forward::to_peer(packet, ip, route, Origin::Node),
        _ => Err(Reason::NoRoute.into()),
    }
}

/// Outside the cluster: the answer of a backend in the node's own network, or a call of a backend that is out there.
#[inline(always)]
fn outside<F, D>(packet: &mut D, ip: &Ip<F>, step: Step) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    match step {
        Step::Translated => Ok(forward::to_outside(packet, ip, Reason::ToClient)),
        Step::Masqueraded => Ok(forward::to_outside(packet, ip, Reason::Masqueraded)),
        _ => Err(Reason::NoRoute.into()),
    }
}

/// Whether a packet that the stack forwards to a pod is from outside the cluster: then the pod's answers must keep the pod's
/// address.
#[inline(always)]
fn comes_from_outside<F, D>(packet: &D, ip: &Ip<F>) -> bool
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let node = packet.node();
    node.has(feature::MASQUERADE)
        && ip.src != F::gateway(node)
        && Route::leads_out(Tables::<F>::route(packet, &ip.src))
}
