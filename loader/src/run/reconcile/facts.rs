//! What the programs are loaded with.

use std::net::{Ipv4Addr, Ipv6Addr};

use common::node::{Node, feature};

use crate::{desired::Desired, netlink::Link};

/// The facts of the node `desired`, whose gateway device is `gateway`.
pub(super) fn node(desired: &Desired, gateway: &Link) -> Node {
    let [_, vni @ ..] = desired.overlay.vni.to_be_bytes();
    let octets4 = |address: Option<Ipv4Addr>| address.map_or([0; 4], |address| address.octets());
    let octets6 = |address: Option<Ipv6Addr>| address.map_or([0; 16], |address| address.octets());
    Node {
        gateway_ifindex: gateway.index,
        features: if desired.has_direct_peer() { feature::DIRECT } else { 0 },
        mac: desired.node.mac,
        port: desired.overlay.port.to_be_bytes(),
        vni,
        reserved: 0,
        gateway4: octets4(desired.node.gateway4),
        gateway6: octets6(desired.node.gateway6),
        underlay4: octets4(desired.node.underlay4),
        underlay6: octets6(desired.node.underlay6),
        loopback4: [0; 4],
        loopback6: [0; 16],
        ports_first: 0,
        ports_last: 0,
    }
}
