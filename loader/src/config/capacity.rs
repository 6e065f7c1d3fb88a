//! Whether the maps hold what the file asks for: a map that would be full is found before it is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    diagnostic::{At, Errors, Place},
    file::File,
};
use crate::desired::Capacities;

/// Reports every map that is too small.
pub(super) fn check(errors: &Errors<'_>, file: &File) {
    let Capacities { pods, peers, routes, sources, .. } = capacities(file);
    let need = need(file);
    let first = |place: Option<&Place>| place.cloned().unwrap_or_default();
    let a_pod = || first(file.pods.first().map(|pod| &pod.place));
    let a_peer = || first(file.peers.first().map(|peer| &peer.place));
    let too_small = |key: &str, given: Option<&At<u32>>, entries: u32, need: u32, why: &Place| {
        if need > entries {
            let given = given.map_or(why, |given| &given.place);
            let message = format!(
                "this file needs {need} entries where the maps have {entries}; set maps.{key} = {need} or more"
            );
            errors.wrong(given, message);
        }
    };
    too_small("pods", file.maps.pods.as_ref(), pods, need.pods, &a_pod());
    too_small("peers", file.maps.peers.as_ref(), peers, need.peers, &a_peer());
    too_small("routes", file.maps.routes.as_ref(), routes, need.routes, &a_peer());
    too_small("sources", file.maps.sources.as_ref(), sources, need.sources, &a_pod());
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
        ..default
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

    Capacities {
        pods: fuller(pods()).max(entries(file.pods.len())),
        peers: fuller(peers()).max(entries(file.peers.len())),
        routes: fuller(own().chain(own_cidrs()).chain(gateways).chain(peers()).chain(cidrs())),
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
