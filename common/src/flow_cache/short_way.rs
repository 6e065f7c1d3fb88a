//! The short way: a packet of a flow that is remembered is made what the one before became, and sent where that went.
//!
//! Each function leaves a packet as it came that can't be sent ([`Taken::NOT`]).

use crate::{
    family::{Family, Ip, V4, V6},
    flow, forward, hops,
    maps::Flow,
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
    let claimed = flow.side != Side::Outside as u32 || out == Some(packet.ifindex());
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
    forward::arrive_at(packet, &flow.pod);
    Taken::by(Taken::POD, flow.pod.ifindex)
}

/// To a peer.
#[inline(always)]
pub fn to_peer<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    match flow.route.underlay_family {
        6 => send::<F, V6, D>(packet, ip, flow),
        _ => send::<F, V4, D>(packet, ip, flow),
    }
}

/// Over an underlay of family `O`.
#[inline(always)]
fn send<F, O, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    O: Family,
    D: Dataplane,
{
    let Some((ifindex, dst, src)) = hops::fresh(packet, flow.route.peer, &flow.route.underlay, flow.hash)
    else {
        return Taken::NOT;
    };
    if forward::exceeds(packet, ip, flow.route.mtu) || !is_ready::<F, D>(packet, flow, Some(ifindex)) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    let (overlay, peer) = (flow.route.is_overlay(), flow.route.peer);
    let len = packet.len();
    if overlay {
        let way = Underlay::<O> {
            destination: O::from_route(&flow.route.underlay),
            source_port: flow::source_port(flow.hash),
            destination_port: packet.node().port,
            tos: ip.tos,
        };
        if vxlan::encapsulate(packet, &way, &flow.route.vtep_mac, F::ETHER_TYPE).is_err() {
            return Taken::by(Taken::FAILED, 0);
        }
    }
    packet.account(Account::PeerTx(peer), len);
    address(packet, dst, src);
    Taken::by(if overlay { Taken::OVERLAY } else { Taken::DIRECT }, ifindex)
}

/// Out of the cluster.
#[inline(always)]
pub fn to_client<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    let Some((ifindex, dst, src)) = forward::fresh_way_outside::<F, D>(packet, flow.becomes.dst) else {
        return Taken::NOT;
    };
    if !is_ready::<F, D>(packet, flow, Some(ifindex)) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    address(packet, dst, src);
    Taken::by(Taken::CLIENT, ifindex)
}

#[inline(always)]
fn address<D: Dataplane>(packet: &mut D, dst: Mac, src: Mac) {
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        dst.store(&mut eth.dst);
        src.store(&mut eth.src);
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
    flow.bytes += packet.len() as u64;
    rewrite::change(packet, ip, &flow.becomes, flow.addresses, flow.ports);
}
