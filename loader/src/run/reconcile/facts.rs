//! What the programs are loaded with.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use common::{
    maps::flow_sets,
    node::{Node, feature},
};

use crate::{
    desired::{Desired, SocketMode},
    netlink::Link,
};

/// Length of an Ethernet header, which an MTU does not count.
const ETHERNET: u32 = 14;

/// How the node's devices and its past make its facts.
pub(super) struct Found<'a> {
    /// The gateway device.
    pub(super) gateway: &'a Link,
    /// Largest MTU of an uplink.
    pub(super) mtu: u32,
    /// Whether XDP may run on an uplink.
    pub(super) xdp: bool,
    /// Ports at which answers to translated sources may come.
    pub(super) answers: &'a RangeInclusive<u16>,
}

/// The facts of the node `desired`.
pub(super) fn node(desired: &Desired, found: &Found<'_>) -> Node {
    let [_, vni @ ..] = desired.overlay.vni.to_be_bytes();
    let octets4 = |address: Option<Ipv4Addr>| address.map_or([0; 4], |address| address.octets());
    let octets6 = |address: Option<Ipv6Addr>| address.map_or([0; 16], |address| address.octets());
    Node {
        gateway_ifindex: found.gateway.index,
        features: features(desired, found.xdp),
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
        answers_first: *found.answers.start(),
        answers_last: *found.answers.end(),
        frame: found.mtu.saturating_add(ETHERNET),
        flow_sets: flow_sets(desired.capacities.flows),
    }
}

/// From the first to the last of the ports that connections may have: given out before, or now. A change of the range leaves those that
/// are there their answers.
pub(super) fn answer_ports(
    before: Option<&RangeInclusive<u16>>,
    now: &RangeInclusive<u16>,
) -> RangeInclusive<u16> {
    let before = before.unwrap_or(now);
    *before.start().min(now.start())..=*before.end().max(now.end())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_were_given_out_stay_of_interest() {
        assert_eq!(answer_ports(None, &(61_000..=65_535)), 61_000..=65_535);
        assert_eq!(answer_ports(Some(&(61_000..=65_535)), &(20_000..=20_999)), 20_000..=65_535);
        assert_eq!(answer_ports(Some(&(20_000..=65_535)), &(30_000..=30_999)), 20_000..=65_535);
    }
}
