//! What must hold between the values of a file.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{
    capacity,
    diagnostic::{At, Errors},
    file::{File, Masquerade, Node, Peer, Pod},
    overlap, services,
    unique::unique,
};
use crate::desired::{DEFAULT_GATEWAY, DEFAULT_INTERFACE, DEFAULT_PORT, MIN_MTU4, MIN_MTU6, gateway_of};

/// Checks everything that no single value can tell.
pub(super) fn check(errors: &Errors<'_>, file: &File) {
    if let Some(node) = &file.node {
        check_node(errors, file, node);
        check_peers(errors, &file.peers, node);
        check_pods(errors, &file.pods, node);
    }
    unique(errors, "name", file.peers.iter().filter_map(|peer| peer.name.as_ref()), Clone::clone);
    unique(errors, "name", file.pods.iter().filter_map(|pod| pod.name.as_ref()), Clone::clone);
    unique(errors, "address", file.pods.iter().flat_map(|pod| &pod.addresses.items), |address| *address);
    check_devices(errors, &file.pods);
    check_masquerade(errors, file);
    services::check(errors, file);
    overlap::check(errors, file);
    capacity::check(errors, file);
}

fn check_node(errors: &Errors<'_>, file: &File, node: &Node) {
    for (family, ipv4) in [("IPv4", true), ("IPv6", false)] {
        let mut addresses = node.addresses.items.iter().filter(|address| address.value.is_ipv4() == ipv4);
        if let (Some(first), Some(second)) = (addresses.next(), addresses.next()) {
            let first = errors.refer(&first.place);
            errors.wrong(&second.place, format!("a second {family} address beside {first}; a node has one"));
        }
    }
    unique(errors, "device", node.uplinks.items.iter(), Clone::clone);
    check_node_ports(errors, file, node);

    let gateway = node.gateway.as_ref().map_or(DEFAULT_GATEWAY, |gateway| &gateway.value);
    if let Some(uplink) = node.uplinks.items.iter().find(|uplink| uplink.value == gateway) {
        errors.wrong(&uplink.place, format!("\"{gateway}\" is the gateway device, which the loader makes"));
    }
    if node.uplinks.items.is_empty() && node.uplinks.complete {
        if let Some(peer) = file.peers.first() {
            let peer = errors.refer(&peer.place);
            errors.missing(&node.place.under("uplink"), format!("missing; {peer} is reached by an uplink"));
        } else if file.overlay.mtu.is_none() {
            let message = "missing; without an uplink to derive the MTU from, overlay.mtu is needed";
            errors.missing(&node.place.under("uplink"), message);
        }
    }

    let Some(mtu) = &file.overlay.mtu else { return };
    let peers = file.peers.iter().flat_map(|peer| peer.pod_cidrs.values());
    let has_ipv6 = node.pod_cidrs.values().chain(peers).any(|cidr| matches!(cidr, IpNet::V6(_)));
    let (least, family) = if has_ipv6 { (MIN_MTU6, "IPv6") } else { (MIN_MTU4, "IPv4") };
    if mtu.value < least {
        errors.wrong(
            &mtu.place,
            format!("{} is less than {least}, which {family} pods need at least", mtu.value),
        );
    }
}

fn check_node_ports(errors: &Errors<'_>, file: &File, node: &Node) {
    let addresses = node.other_addresses();
    unique(errors, "address", addresses.items.iter(), |address| *address);
    for At { value: address, place } in &addresses.items {
        let mut peers = file.peers.iter().flat_map(|peer| &peer.addresses.items);
        if let Some(peer) = peers.find(|peer| peer.value == *address) {
            errors.wrong(place, format!("{address} is a peer's, {}", errors.refer(&peer.place)));
        }
    }
}

fn check_peers(errors: &Errors<'_>, peers: &[Peer], node: &Node) {
    let own = node.addresses.items.iter();
    unique(errors, "address", own.chain(peers.iter().flat_map(|peer| &peer.addresses.items)), |address| {
        *address
    });

    for peer in peers {
        if let (Some(own), Some(name)) = (&node.name, &peer.name)
            && own.value == name.value
        {
            errors.wrong(
                &name.place,
                format!("the node itself, see {}; peers are the others", errors.refer(&own.place)),
            );
        }
        let complete = peer.addresses.complete && node.addresses.complete;
        if complete && underlay(peer, node).is_none() {
            let own = errors.refer(&node.addresses.place);
            let message = format!("no address of a family that this node has too, see {own}");
            errors.wrong(&peer.addresses.place, message);
        }
    }
}

/// The address at which the node reaches a peer.
pub(super) fn underlay(peer: &Peer, node: &Node) -> Option<IpAddr> {
    let reaches = |address: &&IpAddr| node.addresses.values().any(|own| own.is_ipv4() == address.is_ipv4());
    peer.addresses.values().find(reaches).copied()
}

/// What a node and a pod share of the 255 bytes of a device's alias, which is how the loader knows its own devices.
const ALIAS_MAX: usize = 255 - "podlane::".len();

fn check_pods(errors: &Errors<'_>, pods: &[Pod], node: &Node) {
    for pod in pods {
        if let (Some(own), Some(name)) = (&node.name, &pod.name)
            && own.value.len() + name.value.len() > ALIAS_MAX
        {
            let message =
                format!("too long; the names of a node and of a pod have {ALIAS_MAX} bytes together");
            errors.wrong(&name.place, message);
        }
        for address in &pod.addresses.items {
            if let Some(message) = misplaced(errors, address.value, node) {
                errors.wrong(&address.place, message);
            }
        }
        unique(errors, "prefix", pod.allowed_sources.items.iter(), |prefix| *prefix);
    }
}

/// Why a pod of this node can't have the address.
pub(super) fn misplaced(errors: &Errors<'_>, address: IpAddr, node: &Node) -> Option<String> {
    let cidrs = &node.pod_cidrs;
    let Some(cidr) = cidrs.items.iter().find(|cidr| cidr.value.contains(&address)) else {
        return cidrs
            .complete
            .then(|| format!("{address} is outside the node's pods, {}", errors.refer(&cidrs.place)));
    };
    // The gateway is in the first CIDR of its family alone.
    let gateway = cidrs.values().find(|first| first.addr().is_ipv4() == address.is_ipv4()).map(gateway_of);
    let what = if gateway == Some(address) {
        "the gateway's, the first address"
    } else if address == cidr.value.network() {
        "the network's own address"
    } else if address.is_ipv4() && address == cidr.value.broadcast() {
        "the broadcast address"
    } else {
        return None;
    };
    Some(format!("{address} is {what} of {}", errors.refer(&cidr.place)))
}

fn check_masquerade(errors: &Errors<'_>, file: &File) {
    let Masquerade { enabled, exclude, .. } = &file.masquerade;
    unique(errors, "prefix", exclude.items.iter(), |prefix| *prefix);
    let ports = file.masquerade.ports();
    let vxlan = file.overlay.port.as_ref().map_or(u32::from(DEFAULT_PORT), |port| port.value);
    if let Some(given) = &file.masquerade.ports
        && u16::try_from(vxlan).is_ok_and(|port| ports.contains(&port))
    {
        errors.wrong(&given.place, format!("{vxlan} is VXLAN's own port, overlay.port"));
    } else if let Some(given) = &file.overlay.port
        && (!file.services.is_empty() || enabled.as_ref().is_some_and(|enabled| enabled.value))
        && u16::try_from(vxlan).is_ok_and(|port| ports.contains(&port))
    {
        let message =
            format!("{vxlan} is among the ports to masquerade with, {}-{}", ports.start(), ports.end());
        errors.wrong(&given.place, message);
    }
    let (Some(enabled), Some(node)) = (enabled.as_ref().filter(|enabled| enabled.value), &file.node) else {
        return;
    };
    if node.uplinks.items.is_empty() && node.uplinks.complete {
        let enabled = errors.refer(&enabled.place);
        let message = format!("missing; answers to what is masqueraded, {enabled}, come in by an uplink");
        errors.missing(&node.place.under("uplink"), message);
    }
    for (ipv4, family) in [(true, "IPv4"), (false, "IPv6")] {
        let has_pods = node.pod_cidrs.values().any(|cidr| cidr.addr().is_ipv4() == ipv4);
        let has_address = node.addresses.values().any(|address| address.is_ipv4() == ipv4);
        if has_pods && !has_address && node.addresses.complete {
            let own = errors.refer(&node.addresses.place);
            let message =
                format!("not of {family}: the node has no {family} address to masquerade with, see {own}");
            errors.odd(&enabled.place, message);
        }
    }
}

/// Two pods can't share a device.
fn check_devices(errors: &Errors<'_>, pods: &[Pod]) {
    let devices: Vec<_> = pods
        .iter()
        .filter_map(|pod| {
            let netns = pod.netns.as_ref()?;
            let interface = pod.interface.as_ref().map_or(DEFAULT_INTERFACE, |interface| &interface.value);
            let value: (&Path, &str) = (netns.value.as_path(), interface);
            Some(At { value, place: netns.place.clone() })
        })
        .collect();
    unique(errors, "namespace and interface", devices.iter(), |(netns, interface): &(&Path, &str)| {
        (PathBuf::from(netns), (*interface).to_owned())
    });
}
