//! ARP from a pod (RFC 826): its gateway is answered for, nobody else.

use network_types::arp::ArpHdr;

use crate::{
    counters::Reason,
    packet::Packet,
    settle::{act, drop},
    tables::Dataplane,
    verdict::Action,
    wire::{ETH_LEN, Eth, ether_type},
};

const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
/// Ethernet (1), IPv4 (0x0800), addresses of 6 and 4 bytes.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Answers a request for the gateway's MAC out of the request itself; drops everything else.
///
/// A pod has its address as a /32: it asks for nobody but the gateway. An announcement (sender and target the same) or a
/// probe for the gateway's address (sender zero) is not a request for it.
#[inline(always)]
pub fn answer<D: Dataplane>(packet: &mut D) -> D::Done {
    let mac = packet.node().mac;
    let gateway = packet.node().gateway4;
    let ifindex = packet.ifindex();
    match turn_round(packet, mac, gateway) {
        Ok(()) => act(packet, Reason::ArpReply, Action::Pod { ifindex }),
        Err(reason) => drop(packet, reason),
    }
}

#[inline(always)]
fn turn_round<P: Packet>(packet: &mut P, mac: [u8; 6], gateway: [u8; 4]) -> Result<(), Reason> {
    let arp = packet.at_mut::<ArpHdr>(ETH_LEN).ok_or(Reason::Malformed)?;
    let [h0, h1] = arp.htype;
    let [p0, p1] = arp.ptype;
    if [h0, h1, p0, p1, arp.hlen, arp.plen] != ETHERNET_IPV4 {
        return Err(Reason::Malformed);
    }
    let asks_for_gateway = arp.oper == REQUEST && arp.tpa == gateway && gateway != [0; 4];
    if !asks_for_gateway || arp.spa == gateway || arp.spa == [0; 4] {
        return Err(Reason::NeighbourIgnored);
    }
    let asker = arp.sha;
    arp.oper = REPLY;
    arp.tha = asker;
    arp.tpa = arp.spa;
    arp.sha = mac;
    arp.spa = gateway;
    let eth = packet.at_mut::<Eth>(0).ok_or(Reason::Malformed)?;
    *eth = Eth { dst: asker, src: mac, ether_type: ether_type::ARP };
    Ok(())
}
