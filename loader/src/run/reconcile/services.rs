//! What services ask of the node, beyond its maps: routes, and a program where the node calls its own node ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::PathBuf,
};

use anyhow::Context as _;
use ipnet::IpNet;

use super::facts;
use crate::{
    desired::{
        Desired,
        services::{Kind, Placement, ServicePort},
    },
    device::Sysctl,
    paths::NodePaths,
    state::{ExposureState, ServiceState, ServicesState},
    sync::{Services, services::Wanted},
};

/// The device by which the node calls its own addresses.
pub(in crate::run) const LOOPBACK: &str = "lo";
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What the services should be.
pub(super) fn wanted(desired: &Desired) -> Wanted<'_> {
    let node = &desired.node;
    let peers = desired.peers.iter().flat_map(|peer| &peer.addresses);
    let nodes = node.underlays().chain(node.node_port_addresses.iter().chain(peers).copied()).collect();
    let loopback = [node.loopback4.map(IpAddr::from), node.loopback6.map(IpAddr::from)];
    let loopback = loopback.into_iter().flatten().filter(|_| facts::has_services(desired)).collect();
    Wanted { ports: &desired.services, nodes, loopback }
}

/// What other verbs are told of the services.
pub(super) fn state(services: &Services) -> ServicesState {
    let service = |(port, group, ids): (&ServicePort, u32, &BTreeMap<Kind, u32>)| {
        let exposures = port.exposures.iter().filter_map(|exposure| {
            Some(ExposureState {
                kind: format!("{:?}", exposure.kind).replace("Ip", "IP"),
                id: *ids.get(&exposure.kind)?,
                frontends: exposure.frontends.clone(),
                inside_local: exposure.inside_local,
                outside_local: exposure.outside_local,
            })
        });
        ServiceState {
            service: port.service.clone(),
            port_name: port.port_name.clone(),
            protocol: format!("{:?}", port.protocol).to_uppercase(),
            port: port.port,
            group,
            random: port.random,
            affinity_seconds: port.affinity_seconds,
            exposures: exposures.collect(),
        }
    };
    ServicesState { services: services.numbers().map(service).collect() }
}

/// Where services are called, as prefixes: the CIDRs, and each address outside of them. Of the families that pods have.
pub(super) fn destinations(desired: &Desired) -> Vec<IpNet> {
    let node = &desired.node;
    let has_family = |address: IpAddr| node.gateways().any(|gateway| gateway.is_ipv4() == address.is_ipv4());
    let is_within = |address: &IpAddr| node.service_cidrs.iter().any(|cidr| cidr.contains(address));
    let others =
        desired.service_addresses().into_iter().filter(|address| !is_within(address)).map(IpNet::from);
    node.service_cidrs.iter().copied().chain(others).filter(|net| has_family(net.addr())).collect()
}

/// Whether services are called at addresses of the node itself, which the node reaches by its loopback device.
pub(super) fn are_called_at_node(desired: &Desired) -> bool {
    let node = &desired.node;
    let own: BTreeSet<IpAddr> = node.underlays().chain(node.node_port_addresses.iter().copied()).collect();
    let exposures = desired.services.iter().flat_map(|port| &port.exposures);
    exposures.flat_map(|exposure| &exposure.frontends).any(|(address, _)| own.contains(address))
}

/// Lets the loopback device take what comes back from a node port under one of the node's own addresses, or, if that is not
/// `needed`, no longer, unless somebody else had let it before.
pub(in crate::run) fn set_accept_local(paths: &NodePaths, needed: bool) -> anyhow::Result<()> {
    let setting = Sysctl { family: "ipv4", device: LOOPBACK, key: "accept_local" };
    let mark = paths.accept_local();
    match (needed, mark.exists()) {
        (true, false) => {
            if setting.get()? != "1" {
                fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))?;
            }
            setting.set("1")?;
        }
        (true, true) => setting.set("1")?,
        (false, true) => {
            setting.set("0")?;
            remove(&mark)?;
        }
        (false, false) => {}
    }
    Ok(())
}

fn remove(path: &PathBuf) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Refuses ports for translated connections that the node's own sockets may take at any time.
pub(in crate::run) fn check_ports(desired: &Desired) -> anyhow::Result<()> {
    let endpoints = desired.services.iter().flat_map(|port| &port.endpoints);
    let translates = desired.masquerade.enabled
        || endpoints.into_iter().any(|endpoint| endpoint.placement == Placement::External);
    let Ok(text) = fs::read_to_string(PORT_RANGE) else { return Ok(()) };
    let (Some((first, last)), true) = (range(&text), translates) else { return Ok(()) };
    let ports = &desired.masquerade.ports;
    if first <= *ports.end() && *ports.start() <= last {
        anyhow::bail!(
            "masquerade.ports {}-{} overlaps the ports of the node's own connections, net.ipv4.ip_local_port_range \
             {first} {last}: set masquerade.ports to others, or `sysctl -w net.ipv4.ip_local_port_range=\"<first> <last>\"`",
            ports.start(),
            ports.end()
        );
    }
    Ok(())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_the_kernel() {
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(range(""), None);
    }
}
