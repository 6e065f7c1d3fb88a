//! TC ingress of a pod's host-side veth: what the pod sends.

use super::reply;
use crate::{
    answer::Answer,
    arp,
    counters::Reason,
    family::{Family, Fragment, Ip, V4, V6},
    forward::{self, Origin},
    maps::{Route, route_kind},
    nat, ndp,
    node::feature,
    settle::{act, drop},
    stage::{Side, Stage, Step},
    tables::{Account, Dataplane, Tables},
    verdict::{Action, Refusal},
    wire::{ETH_LEN, Eth, Ports, ether_type, protocol},
};

/// Decides what becomes of a packet that a pod sends.
#[inline(always)]
pub fn from_pod<D: Dataplane>(packet: &mut D) -> D::Done {
    if packet.has_vlan() {
        return drop(packet, Reason::Vlan);
    }
    let Some(eth) = packet.at::<Eth>(0) else { return drop(packet, Reason::Malformed) };
    match eth.ether_type {
        ether_type::IPV4 => match V4::parse(packet, ETH_LEN) {
            Some(mut ip) => routed(packet, &mut ip),
            None => drop(packet, Reason::Malformed),
        },
        ether_type::IPV6 => match V6::parse(packet, ETH_LEN) {
            Some(mut ip) => match ndp::answer(packet, &ip) {
                Some(done) => done,
                None => routed(packet, &mut ip),
            },
            None => drop(packet, Reason::Malformed),
        },
        ether_type::ARP => arp::answer(packet),
        _ => drop(packet, Reason::NotIp),
    }
}

/// An IP packet: sent on, or refused and the pod told.
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
    let gateway = F::gateway(packet.node());
    match reply::to_source(packet, ip, &gateway, trouble) {
        Answer::Ready => {
            let ifindex = packet.ifindex();
            act(packet, reason, Action::Pod { ifindex })
        }
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
    if F::is_multicast(ip.dst) {
        return Err(Reason::Multicast.into());
    }
    let slot = sender(packet, ip)?;
    let len = packet.len();
    packet.account(Account::PodTx(slot), len);

    let mut step = Step::Untouched;
    if nat::concerns(packet, ip) {
        if let Some((reason, action)) = Stage::<F>::take(packet, ip, Side::Pod).settled() {
            return Ok(act(packet, reason, action));
        }
        step = Stage::<F>::translate(packet, ip, Side::Pod).goes_on()?;
        // What may yet be refused is not remembered.
        if step == Step::Translated && !is_tunnel(packet, ip) {
            Stage::<F>::learn(packet, ip, Side::Pod);
        }
    }
    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        F::take_hop(packet, ETH_LEN)?;
        return Ok(forward::to_pod(packet, &pod, Action::Pod { ifindex: pod.ifindex }));
    }
    let route = forward::route(packet, ip);
    if is_tunnel(packet, ip) && !is_for_pod(ip, route) {
        return Err(Reason::Spoofed.into());
    }
    let Some(route) = route else { return outside(packet, ip, step) };
    match route.kind {
        route_kind::HOST if step.translated() => Ok(forward::back_to_host(packet, ip)),
        route_kind::HOST => Ok(forward::to_host(packet, Reason::ToHost)),
        route_kind::LOCAL => Err(Reason::NoSuchPod.into()),
        route_kind::SERVICE => Err(Reason::NoSuchService.into()),
        route_kind::OUTSIDE => outside(packet, ip, if step.translated() { step } else { Step::Unknown }),
        _ => forward::to_peer(packet, ip, route, Origin::Pod),
    }
}

/// Whether it is like a packet of the nodes' tunnels, with which no pod has any business but with other pods: masqueraded, it would be the
/// node's own to another node, and whatever is in it would be taken for the node's pods'. A kernel's VTEP takes it from anybody, and
/// at any address that its node has.
#[inline(always)]
fn is_tunnel<F: Family, D: Dataplane>(packet: &D, ip: &Ip<F>) -> bool {
    if ip.protocol != protocol::UDP || ip.fragment == Fragment::Later {
        return false;
    }
    let Some([_, _, c, d]) = packet.at::<Ports>(ip.payload()).copied() else { return false };
    [c, d] == packet.node().port
}

/// Whether a pod of another node is what a packet by that route is for.
#[inline(always)]
fn is_for_pod<F: Family>(ip: &Ip<F>, route: Option<&'static Route>) -> bool {
    route.is_some_and(|route| route.is_pods() && !F::is_nodes_own(ip.dst, route.prefix_len))
}

/// Outside the cluster: a packet that has the node's address leaves at once. One that is to have it gets it; `Unknown` is one
/// that keeps its own.
#[inline(always)]
fn outside<F, D>(packet: &mut D, ip: &mut Ip<F>, mut step: Step) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
{
    let node = packet.node();
    // A node without an address of this family has none to lend.
    let masquerade = node.has(feature::MASQUERADE) && F::underlay(node) != F::narrow([0; 2]);
    if step == Step::Untouched && masquerade && forward::is_outside(packet, ip) {
        step = Stage::<F>::masquerade(packet, ip).goes_on()?;
    }
    let reason = match step {
        Step::Masqueraded => Reason::Masqueraded,
        Step::Translated => Reason::ToClient,
        _ => return Ok(forward::to_host(packet, Reason::ToOutside)),
    };
    F::take_hop(packet, ETH_LEN)?;
    Ok(forward::to_outside(packet, ip, reason))
}

/// The slot of the pod behind this device, if the packet's source address is its own or allowed to it.
#[inline(always)]
fn sender<F, D>(packet: &D, ip: &Ip<F>) -> Result<u32, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
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
