//! From the file to the desired state, once it is known to be right.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    capacity::capacities,
    check::underlay,
    file::{self, File},
    services::{Frontends, health_checks, services},
};
use crate::{
    desired::{
        DEFAULT_GATEWAY, DEFAULT_INTERFACE, DEFAULT_PORT, DEFAULT_VNI, Desired, Masquerade, Node, Overlay,
        Peer, Pod, gateway_of,
    },
    mac,
};

/// What the file asks for; `None` if it has errors, which are reported by then.
pub(super) fn desired(file: &File, frontends: &Frontends) -> Option<Desired> {
    let node = file.node.as_ref()?;
    let mut peers =
        file.peers.iter().map(|it| peer(it, node, file.overlay.direct)).collect::<Option<Vec<_>>>()?;
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut pods = file.pods.iter().map(pod).collect::<Option<Vec<_>>>()?;
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    let services = services(file, frontends)?;
    Some(Desired {
        node: this_node(node)?,
        overlay: Overlay {
            vni: file.overlay.vni.unwrap_or(DEFAULT_VNI),
            port: file.overlay.port.as_ref().map_or(Some(DEFAULT_PORT), |port| port.value.try_into().ok())?,
            mtu: file.overlay.mtu.as_ref().map(|mtu| mtu.value),
        },
        peers,
        pods,
        health_checks: health_checks(file, &services),
        services,
        echo: file.echo.unwrap_or(true),
        masquerade: masquerade(file, node),
        timeouts: file.timeouts,
        capacities: capacities(file),
        sockets: file.sockets.clone(),
        xdp: file.xdp,
        tc: file.tc,
    })
}

fn this_node(node: &file::Node) -> Option<Node> {
    let addresses: Vec<_> = node.addresses.values().copied().collect();
    let pod_cidrs: Vec<_> = node.pod_cidrs.values().copied().collect();
    let gateways: Vec<_> = pod_cidrs.iter().map(gateway_of).collect();
    let loopbacks: Vec<_> = pod_cidrs.iter().map(IpNet::network).collect();
    Some(Node {
        name: node.name.as_ref()?.value.clone(),
        uplinks: node.uplinks.values().cloned().collect(),
        mac: node.vtep_mac.as_ref().map_or_else(|| mac::of_vtep(&addresses), |mac| mac.value),
        gateway_device: node.gateway.as_ref().map_or(DEFAULT_GATEWAY, |gateway| &gateway.value).to_owned(),
        gateway4: gateways.iter().find_map(ipv4),
        gateway6: gateways.iter().find_map(ipv6),
        underlay4: addresses.iter().find_map(ipv4),
        underlay6: addresses.iter().find_map(ipv6),
        loopback4: loopbacks.iter().find_map(ipv4),
        loopback6: loopbacks.iter().find_map(ipv6),
        service_cidrs: node.service_cidrs.values().copied().collect(),
        node_port_addresses: node.node_port_addresses(),
        pod_cidrs,
    })
}

fn masquerade(file: &File, node: &file::Node) -> Masquerade {
    // What is sent to pods and services is never masqueraded; a route for part of them would take them away.
    let routed: Vec<_> = node
        .pod_cidrs
        .values()
        .chain(node.service_cidrs.values())
        .chain(file.peers.iter().flat_map(|peer| peer.pod_cidrs.values()))
        .copied()
        .chain(node.addresses.values().map(|address| IpNet::from(*address)))
        .chain(
            file.peers.iter().flat_map(|peer| peer.addresses.values()).map(|address| IpNet::from(*address)),
        )
        .collect();
    let is_outside = |prefix: &&IpNet| !routed.iter().any(|routed| routed.contains(*prefix));
    let mut exclude: Vec<_> = file.masquerade.exclude.values().filter(is_outside).copied().collect();
    exclude.sort_unstable();
    Masquerade {
        enabled: file.masquerade.enabled.as_ref().is_some_and(|enabled| enabled.value),
        exclude,
        ports: file.masquerade.ports(),
    }
}

fn ipv4(address: &IpAddr) -> Option<std::net::Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn ipv6(address: &IpAddr) -> Option<std::net::Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(*address),
    }
}

fn peer(peer: &file::Peer, node: &file::Node, direct: bool) -> Option<Peer> {
    let addresses: Vec<_> = peer.addresses.values().copied().collect();
    Some(Peer {
        name: peer.name.as_ref()?.value.clone(),
        underlay: underlay(peer, node)?,
        vtep_mac: peer.vtep_mac.as_ref().map_or_else(|| mac::of_vtep(&addresses), |mac| mac.value),
        addresses,
        pod_cidrs: peer.pod_cidrs.values().copied().collect(),
        direct: peer.direct.unwrap_or(direct),
    })
}

fn pod(pod: &file::Pod) -> Option<Pod> {
    Some(Pod {
        name: pod.name.as_ref()?.value.clone(),
        netns: pod.netns.as_ref()?.value.clone(),
        interface: pod.interface.as_ref().map_or(DEFAULT_INTERFACE, |interface| &interface.value).to_owned(),
        addresses: pod.addresses.values().copied().collect(),
        allowed_sources: pod.allowed_sources.values().copied().collect(),
    })
}
