//! Whether the maps hold what the file asks for: a map that would be full is found before it is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    diagnostic::{At, Errors, Place},
    file::File,
    services::Service,
};
use crate::{
    desired::{
        Capacities, Desired,
        services::{Candidates, ServicePort},
    },
    maglev,
};

/// Reports every map that is too small.
pub(super) fn check(errors: &Errors<'_>, file: &File) {
    let Capacities { pods, peers, routes, sources, .. } = capacities(file);
    let need = need(file);
    let first = |place: Option<&Place>| place.cloned().unwrap_or_default();
    let a_pod = || first(file.pods.first().map(|pod| &pod.place));
    let a_peer = || first(file.peers.first().map(|peer| &peer.place));
    let too_small = |key: &str, given: Option<&At<u32>>, entries: u32, need: u32, why: &Place| {
        compare(errors, key, given, entries, need, why);
    };
    too_small("pods", file.maps.pods.as_ref(), pods, need.pods, &a_pod());
    too_small("peers", file.maps.peers.as_ref(), peers, need.peers, &a_peer());
    too_small("routes", file.maps.routes.as_ref(), routes, need.routes, &a_peer());
    too_small("sources", file.maps.sources.as_ref(), sources, need.sources, &a_pod());
}

/// Reports every map that is too small for the services.
pub(super) fn check_services(errors: &Errors<'_>, file: &File, desired: &Desired) {
    let need = need_of_services(desired);
    let has = &desired.capacities;
    let maps = &file.maps;
    let why = file.services.first().map(Service::place).cloned().unwrap_or_default();
    compare(errors, "services", maps.services.as_ref(), has.services, need.services, &why);
    compare(errors, "frontends", maps.frontends.as_ref(), has.frontends, need.frontends, &why);
    compare(errors, "backends", maps.backends.as_ref(), has.backends, need.backends, &why);
    compare(errors, "maglev", maps.maglev.as_ref(), has.maglev, need.maglev, &why);
    let given = maps.source_ranges.as_ref();
    compare(errors, "source-ranges", given, has.source_ranges, need.source_ranges, &why);
}

fn compare(errors: &Errors<'_>, key: &str, given: Option<&At<u32>>, entries: u32, need: u32, why: &Place) {
    if need > entries {
        let given = given.map_or(why, |given| &given.place);
        let message = format!(
            "this file needs {need} entries where the maps have {entries}; set maps.{key} = {need} or more"
        );
        errors.wrong(given, message);
    }
}

/// What the services need.
fn need_of_services(desired: &Desired) -> Capacities {
    let exposures = || desired.services.iter().flat_map(|port| &port.exposures);
    let frontends = exposures().map(|exposure| exposure.frontends.len()).sum::<usize>();
    Capacities {
        services: entries(exposures().count()),
        frontends: entries(frontends + desired.service_addresses().len()),
        backends: entries(desired.services.iter().map(|port| port.endpoints.len()).sum()),
        maglev: entries(desired.services.iter().map(elements).sum()),
        source_ranges: entries(exposures().map(|exposure| exposure.source_ranges.len()).sum()),
        ..desired.capacities
    }
}

/// How many elements the tables of a service port have: those of equal candidates are one.
fn elements(port: &ServicePort) -> usize {
    let mut tables: Vec<&[usize]> = Vec::new();
    for candidates in port.exposures.iter().flat_map(|exposure| [&exposure.inside, &exposure.outside]) {
        if let Candidates::Endpoints(indices) = candidates
            && !tables.contains(&indices.as_slice())
        {
            tables.push(indices);
        }
    }
    let weights = |table: &[usize]| {
        table
            .iter()
            .filter_map(|index| port.endpoints.get(*index))
            .map(|endpoint| endpoint.weight)
            .collect::<Vec<_>>()
    };
    let length = |table: &&[usize]| {
        if port.random { maglev::random_length(&weights(table)) } else { maglev::length(table.len()) }
    };
    tables.iter().map(length).sum()
}

/// Sizes of the maps, as configured or by default.
pub(super) fn capacities(file: &File) -> Capacities {
    let default = Capacities::default();
    let or = |given: &Option<At<u32>>, default| given.as_ref().map_or(default, |given| given.value);
    Capacities {
        pods: or(&file.maps.pods, default.pods),
        peers: or(&file.maps.peers, default.peers),
        routes: or(&file.maps.routes, default.routes),
        sources: or(&file.maps.sources, default.sources),
        services: or(&file.maps.services, default.services),
        frontends: or(&file.maps.frontends, default.frontends),
        backends: or(&file.maps.backends, default.backends),
        maglev: or(&file.maps.maglev, default.maglev),
        source_ranges: or(&file.maps.source_ranges, default.source_ranges),
        conntrack: or(&file.maps.conntrack, default.conntrack),
        affinity: or(&file.maps.affinity, default.affinity),
        fragments: or(&file.maps.fragments, default.fragments),
        sockets: or(&file.maps.sockets, default.sockets),
        flows: or(&file.maps.flows, default.flows),
    }
}

/// What the file needs of each: the fuller of the two families, and for pods and peers a slot each.
fn need(file: &File) -> Capacities {
    let is_ipv4 = |prefix: &IpNet| matches!(prefix, IpNet::V4(_));
    let node = || file.node.iter();
    let pods = || file.pods.iter().flat_map(|pod| pod.addresses.values()).map(IpAddr::is_ipv4);
    let sources = || file.pods.iter().flat_map(|pod| pod.allowed_sources.values()).map(is_ipv4);
    let peers = || file.peers.iter().flat_map(|peer| peer.addresses.values()).map(IpAddr::is_ipv4);
    let own = || node().flat_map(|node| node.addresses.values()).map(IpAddr::is_ipv4);
    let own_cidrs = || node().flat_map(|node| node.pod_cidrs.values()).map(is_ipv4);
    let cidrs = || file.peers.iter().flat_map(|peer| peer.pod_cidrs.values()).map(is_ipv4);
    let gateways = [true, false];
    let service_cidrs = || node().flat_map(|node| node.service_cidrs.values()).map(is_ipv4);
    let node_ports = || node().flat_map(|node| node.other_addresses().values()).map(IpAddr::is_ipv4);
    let excluded = || file.masquerade.exclude.values().map(is_ipv4);
    let services = || service_cidrs().chain(node_ports()).chain(excluded());

    Capacities {
        pods: fuller(pods()).max(entries(file.pods.len())),
        peers: fuller(peers()).max(entries(file.peers.len())),
        routes: fuller(
            own().chain(own_cidrs()).chain(gateways).chain(peers()).chain(cidrs()).chain(services()),
        ),
        sources: fuller(sources()),
        ..Capacities::default()
    }
}

/// How many there are of the family that has more, each being told by whether it is IPv4.
fn fuller(ipv4: impl Iterator<Item = bool>) -> u32 {
    let (four, all) = ipv4.fold((0, 0), |(four, all), ipv4| (four + usize::from(ipv4), all + 1));
    entries(four.max(all - four))
}

fn entries(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
