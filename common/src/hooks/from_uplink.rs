//! TC ingress of an uplink: what the underlay sends.

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
    tables::{Account, Dataplane, Tables},
    verdict::{Action, Refusal, Trouble},
    vxlan,
    wire::{ETH_LEN, Eth, ether_type},
};

/// Decides what becomes of a packet that an uplink receives.
#[inline(always)]
pub fn from_uplink<D: Dataplane>(packet: &mut D) -> D::Done {
    let arrival = match arrive(packet) {
        Ok(arrival) => arrival,
        Err((reason, action)) => return act(packet, reason, action),
    };
    match arrival.ether_type {
        ether_type::IPV4 => deliver::<V4, D>(packet, arrival),
        ether_type::IPV6 => deliver::<V6, D>(packet, arrival),
        _ => drop(packet, Reason::NotIp),
    }
}

/// How a packet came that is not foreign.
#[derive(Clone, Copy)]
struct Arrival {
    /// Bytes of a tunnel between the Ethernet header and the pods' IP header: zero if it came without one.
    room: usize,
    /// Type of service on the outside.
    tos: u8,
    /// EtherType of what is inside, network byte order.
    ether_type: [u8; 2],
    /// The peer's slot, or `OUTSIDE`.
    peer: u32,
}

/// It is from no peer: it may be for a service, or the answer to a masqueraded pod.
const OUTSIDE: u32 = u32::MAX;

/// What is done with a packet that is none of ours.
const FOREIGN: (Reason, Action) = (Reason::Foreign, Action::Continue);

/// How a packet came.
///
/// # Errors
///
/// What is done with it at once: it is none of ours, or not valid, or its flow is known.
#[inline(always)]
fn arrive<D: Dataplane>(packet: &mut D) -> Result<Arrival, (Reason, Action)> {
    if packet.has_vlan() {
        return Err(FOREIGN);
    }
    match packet.at::<Eth>(0).map(|eth| eth.ether_type) {
        Some(ether_type::IPV4) => over::<V4, D>(packet),
        Some(ether_type::IPV6) => over::<V6, D>(packet),
        _ => Err(FOREIGN),
    }
}

#[inline(always)]
fn over<O, D>(packet: &mut D) -> Result<Arrival, (Reason, Action)>
where
    O: Family,
    D: Dataplane + Tables<O> + Stage<O>,
{
    let Some(mut ip) = O::parse(packet, ETH_LEN) else { return Err(FOREIGN) };
    let tunnel = vxlan::arrive::<O, D>(packet, &ip).map_err(|reason| (reason, Action::Drop))?;
    if let Some(vxlan::Arrival { ether_type, peer }) = tunnel {
        return Ok(Arrival { room: vxlan::room::<O>(), tos: ip.tos, ether_type, peer });
    }
    let mut peer = None;
    if packet.node().has(feature::DIRECT) {
        peer = direct(packet, &ip);
    }
    if peer.is_none() && nat::concerns(packet, &ip) {
        if let Some(settled) = Stage::<O>::take(packet, &mut ip, Side::Outside).settled() {
            return Err(settled);
        }
        peer = Some(OUTSIDE);
    }
    let Some(peer) = peer else { return Err(FOREIGN) };
    Ok(Arrival { room: 0, tos: ip.tos, ether_type: O::ETHER_TYPE, peer })
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

/// A packet, its tunnel, if any, still on it: delivered, or refused and its source told.
///
/// The tunnel comes off first: whatever a packet then comes to, it was for this node, and all that follows is the same for one
/// that came without.
#[inline(always)]
fn deliver<F, D>(packet: &mut D, arrival: Arrival) -> D::Done
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
{
    if !packet.claim() {
        return act(packet, Reason::ToTc, Action::Continue);
    }
    if arrival.room != 0
        && let Err(refusal) = strip::<F, D>(packet, arrival.room)
    {
        return refusal.discard(packet);
    }
    let Some(mut ip) = F::parse(packet, ETH_LEN) else { return drop(packet, Reason::Malformed) };
    if arrival.peer != OUTSIDE {
        let len = packet.len();
        packet.account(Account::PeerRx(arrival.peer), len);
    }
    let refusal = match accept(packet, &mut ip, arrival) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    let Refusal::Answer(reason, trouble) = refusal else {
        return refusal.discard(packet);
    };
    match tell(packet, &mut ip, arrival, reason, trouble) {
        Ok(done) => done,
        Err(refusal) => refusal.discard(packet),
    }
}

/// Takes the tunnel off, if there is a packet in it: of one that ends before its IP header does, the kernel refuses to.
#[inline(always)]
fn strip<F: Family, D: Dataplane>(packet: &mut D, room: usize) -> Result<(), Refusal> {
    packet.at::<F::Header>(ETH_LEN + room).ok_or(Reason::Malformed)?;
    packet.decapsulate(room, F::IS_V6)?;
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        eth.ether_type = F::ETHER_TYPE;
    }
    Ok(())
}

#[inline(always)]
fn accept<F, D>(packet: &mut D, ip: &mut Ip<F>, arrival: Arrival) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
{
    if let Some(tos) = vxlan::congestion(arrival.tos, ip.tos)? {
        F::set_tos(packet, ETH_LEN, tos);
    }
    let mut step = Step::Untouched;
    // Of what comes from outside that is known, and its flow has been looked for.
    let outside = arrival.peer == OUTSIDE;
    if outside || nat::concerns(packet, ip) {
        let side = side(packet, ip, arrival);
        if !outside && let Some((reason, action)) = Stage::<F>::take(packet, ip, side).settled() {
            return Ok(act(packet, reason, action));
        }
        step = Stage::<F>::translate(packet, ip, side).goes_on()?;
        if step == Step::Translated {
            Stage::<F>::learn(packet, ip, side);
        }
    }
    if step == Step::HandedOn {
        if let Some(done) = hand_on(packet, ip)? {
            return Ok(done);
        }
        step = Stage::<F>::translate(packet, ip, Side::Large).goes_on()?;
    }
    if outside && !step.translated() {
        return Ok(act(packet, Reason::Foreign, Action::Continue));
    }
    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        F::take_hop(packet, ETH_LEN)?;
        return Ok(forward::to_pod(packet, &pod, Action::Pod { ifindex: pod.ifindex }));
    }
    let Some(route) = forward::route(packet, ip) else { return to_client(packet, ip, step) };
    match route.kind {
        route_kind::HOST if step.translated() => Ok(forward::back_to_host(packet, ip)),
        route_kind::HOST => Ok(forward::to_host(packet, Reason::ToHost)),
        route_kind::LOCAL => Err(Reason::NoSuchPod.into()),
        route_kind::OUTSIDE => to_client(packet, ip, step),
        // This node is no way to anywhere else, unless it is the one that translates.
        _ if step.translated() && route.is_peer() => forward::to_peer(packet, ip, route, Origin::Pod),
        _ => Err(Reason::NoRoute.into()),
    }
}

/// Whose packet it is. What a peer sends is its own pods' or its own, unless it hands somebody on.
#[inline(always)]
fn side<F, D>(packet: &D, ip: &Ip<F>, arrival: Arrival) -> Side
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    if arrival.peer == OUTSIDE {
        return Side::Outside;
    }
    if arrival.room == 0 || !packet.node().has(feature::DSR) {
        return Side::Peer;
    }
    match Tables::<F>::route(packet, &ip.src) {
        Some(route) if route.is_peer() => Side::Peer,
        _ => Side::HandedOn,
    }
}

/// To the node of the backend that `ip` names, as it came; none if the node's stack would have to cut it into fragments, which takes
/// it for its own.
#[inline(always)]
fn hand_on<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Result<Option<D::Done>, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let sent = match Tables::<F>::route(packet, &ip.dst) {
        Some(route) if route.is_peer() => forward::to_peer(packet, ip, route, Origin::Client),
        _ => Err(Reason::NoRoute.into()),
    };
    let refusal = match sent {
        Ok(done) => return Ok(Some(done)),
        Err(refusal) => refusal,
    };
    // What comes next is about what the packet says.
    if let Some(said) = F::parse(packet, ETH_LEN) {
        *ip = said;
    }
    match refusal {
        Refusal::Answer(Reason::TooBig, _) if ip.may_fragment => Ok(None),
        refusal => Err(refusal),
    }
}

/// Outside the cluster: what has been translated to go there.
#[inline(always)]
fn to_client<F, D>(packet: &mut D, ip: &Ip<F>, step: Step) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let reason = match step {
        Step::Translated => Reason::ToClient,
        Step::Masqueraded => Reason::Masqueraded,
        _ => return Err(Reason::NoRoute.into()),
    };
    F::take_hop(packet, ETH_LEN)?;
    Ok(forward::to_outside(packet, ip, reason))
}

/// Answers the source, the way that its route says.
#[inline(always)]
fn tell<F, D>(
    packet: &mut D,
    ip: &mut Ip<F>,
    arrival: Arrival,
    reason: Reason,
    trouble: Trouble,
) -> Result<D::Done, Refusal>
where
    F: Family,
    D: Dataplane + Tables<F> + Stage<F>,
{
    if nat::is_on(packet) {
        Stage::<F>::undo(packet, ip);
    }
    // Whoever was handed on by another node is outside, too.
    let source = Tables::<F>::route(packet, &ip.src);
    let is_outside = arrival.peer == OUTSIDE || Route::leads_out(source);
    let node = packet.node();
    // Nobody outside knows the pods' gateway.
    let from = if is_outside { F::underlay(node) } else { F::gateway(node) };
    // From here on `ip` is what the answer says of itself.
    match reply::to_source(packet, ip, &from, trouble) {
        Answer::Ready => {}
        Answer::Withheld => return Err(Refusal::Drop(reason)),
        Answer::Failed => return Err(Reason::HelperFailed.into()),
    }
    if is_outside {
        return Ok(forward::to_outside(packet, ip, reason));
    }
    match source {
        Some(route) if route.is_peer() => forward::to_peer(packet, ip, route, Origin::Answer(reason)),
        _ => Err(Refusal::Drop(reason)),
    }
}
