//! What the programs are loaded with.

use std::net::{Ipv4Addr, Ipv6Addr};

use common::node::{Node, feature};

use crate::{
    desired::{Desired, SocketMode},
    netlink::Link,
};

/// Length of an Ethernet header, which an MTU does not count.
const ETHERNET: u32 = 14;

/// The facts of the node `desired`, whose gateway device is `gateway` and whose uplinks have an MTU of `mtu` at most, with
/// XDP on an uplink or without.
pub(super) fn node(desired: &Desired, gateway: &Link, mtu: u32, xdp: bool) -> Node {
    let [_, vni @ ..] = desired.overlay.vni.to_be_bytes();
    let octets4 = |address: Option<Ipv4Addr>| address.map_or([0; 4], |address| address.octets());
    let octets6 = |address: Option<Ipv6Addr>| address.map_or([0; 16], |address| address.octets());
    Node {
        gateway_ifindex: gateway.index,
        features: features(desired, xdp),
        mac: desired.node.mac,
        port: desired.overlay.port.to_be_bytes(),
        vni,
        reserved: 0,
        gateway4: octets4(desired.node.gateway4),
        gateway6: octets6(desired.node.gateway6),
        underlay4: octets4(desired.node.underlay4),
        underlay6: octets6(desired.node.underlay6),
        loopback4: octets4(desired.node.loopback4),
        loopback6: octets6(desired.node.loopback6),
        ports_first: *desired.masquerade.ports.start(),
        ports_last: *desired.masquerade.ports.end(),
        frame: mtu.saturating_add(ETHERNET),
        flows: desired.capacities.flows,
    }
}

/// Whether packets are looked at for services: with a service, and also where there are service addresses without one, which
/// are nobody's.
pub(super) fn has_services(desired: &Desired) -> bool {
    !desired.services.is_empty() || !desired.node.service_cidrs.is_empty()
}

/// Bits of [`feature`].
fn features(desired: &Desired, xdp: bool) -> u32 {
    let bits = [
        (desired.has_direct_peer(), feature::DIRECT),
        (has_services(desired), feature::SERVICES),
        (desired.masquerade.enabled, feature::MASQUERADE),
        (has_services(desired) && desired.echo, feature::SERVICE_ECHO),
        (xdp, feature::XDP),
        (desired.is_handed_callers(), feature::DSR),
        (desired.sockets.mode != SocketMode::Off, feature::SOCKETS),
        (desired.sockets.mode == SocketMode::On, feature::UDP_SOCKETS),
    ];
    bits.into_iter().filter(|(on, _)| *on).fold(0, |features, (_, bit)| features | bit)
}
