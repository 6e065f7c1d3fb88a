//! The short way: a packet of a flow that is remembered is made what the one before became, and sent where that went.
//!
//! Each function leaves a packet as it came that can't be sent ([`Taken::NOT`]).

use crate::{
    family::{Family, Ip, V4, V6},
    flow, forward, hops,
    maps::{Flow, Hop},
    rewrite,
    stage::{Side, Taken},
    tables::{Account, Dataplane, Underlay},
    vxlan,
    wire::{ETH_LEN, Eth, Mac},
};

/// Takes a hop off a packet, if it may be changed: what leaves by the device that it came by any hook can send back; for anything else it
/// has to be claimed, if that has not been done.
#[inline(always)]
fn is_ready<F: Family, D: Dataplane>(packet: &mut D, flow: &Flow<F::Addr>, out: Option<u32>) -> bool {
    let claimed = flow.side != Side::Outside as u8 || out == Some(packet.ifindex());
    F::hops(packet, ETH_LEN) > 1 && (claimed || packet.claim()) && F::take_hop(packet, ETH_LEN).is_ok()
}

/// To a pod of this node.
#[inline(always)]
pub fn to_pod<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    if !is_ready::<F, D>(packet, flow, None) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    let pod = flow.pod();
    forward::arrive_at(packet, &pod);
    Taken::by(Taken::POD, pod.ifindex)
}

/// To a peer.
#[inline(always)]
pub fn to_peer<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    let to = flow.peer();
    let Some(hop) = hops::fresh(packet, to.peer, to.hash) else { return Taken::NOT };
    match hop.route.underlay_family {
        6 => send::<F, V6, D>(packet, ip, flow, hop),
        _ => send::<F, V4, D>(packet, ip, flow, hop),
    }
}

/// Over an underlay of family `O`.
#[inline(always)]
fn send<F, O, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>, hop: &'static Hop) -> Taken
where
    F: Family,
    O: Family,
    D: Dataplane,
{
    let route = &hop.route;
    if forward::exceeds(packet, ip, route.mtu.into()) || !is_ready::<F, D>(packet, flow, Some(hop.ifindex)) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    let overlay = route.is_overlay();
    let len = packet.len();
    if overlay {
        let way = Underlay::<O> {
            source: O::underlay(packet.node()),
            destination: O::from_route(&route.underlay),
            source_port: flow::source_port(flow.peer().hash),
            destination_port: packet.node().port,
            tos: ip.tos,
        };
        if vxlan::encapsulate(packet, &way, &route.vtep_mac, F::ETHER_TYPE).is_err() {
            return Taken::by(Taken::FAILED, 0);
        }
    }
    packet.account(Account::PeerTx(route.peer), len);
    address(packet, hop);
    Taken::by(if overlay { Taken::OVERLAY } else { Taken::DIRECT }, hop.ifindex)
}

/// Out of the cluster.
#[inline(always)]
pub fn to_client<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    let (source, destination) = (flow.becomes.src, flow.becomes.dst);
    let Some(hop) = hops::fresh_outside::<F, D>(packet, source, destination) else { return Taken::NOT };
    if !is_ready::<F, D>(packet, flow, Some(hop.ifindex)) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    address(packet, hop);
    Taken::by(Taken::CLIENT, hop.ifindex)
}

#[inline(always)]
fn address<D: Dataplane>(packet: &mut D, hop: &Hop) {
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        Mac::load(&hop.dst).store(&mut eth.dst);
        Mac::load(&hop.src).store(&mut eth.src);
    }
}

/// Makes the packet what its flow's become, and counts it.
#[inline(always)]
fn translate<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>)
where
    F: Family,
    D: Dataplane,
{
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(packet.len() as u32);
    let ports = rewrite::port_change(&flow.key, &flow.becomes);
    rewrite::change(packet, ip, &flow.becomes, u32::from(flow.addresses), ports);
}
