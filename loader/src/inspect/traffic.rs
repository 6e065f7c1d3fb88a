//! Who there is, and what they send and receive.

use anyhow::Context as _;
use common::maps::{Traffic, name};

use super::pinned::{self, PerCpu};
use crate::{
    mac,
    paths::NodePaths,
    report::{PeerRow, PeersReport, PodRow, PodsReport, TrafficRow},
    state::{PeerState, PodState, State},
};

/// The pods of a node.
pub fn pods(paths: &NodePaths) -> anyhow::Result<PodsReport> {
    let State { pods, waiting, .. } = state(paths)?;
    let traffic = pinned::per_cpu_array(paths, name::POD_TRAFFIC)?;
    let row = |pod: PodState| {
        let PodState { name, netns, interface, host_device, ifindex, slot, addresses, mac } = pod;
        let traffic = at(&traffic, slot, name::POD_TRAFFIC)?;
        let mac = mac::show(mac);
        Ok(PodRow { name, addresses, device: host_device, ifindex, netns, interface, mac, traffic })
    };
    let pods = pods.into_iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(PodsReport { node: paths.node().to_owned(), pods, waiting })
}

/// The peers of a node.
pub fn peers(paths: &NodePaths) -> anyhow::Result<PeersReport> {
    let State { peers, .. } = state(paths)?;
    let traffic = pinned::per_cpu_array(paths, name::PEER_TRAFFIC)?;
    let row = |peer: PeerState| {
        let PeerState { name, slot, underlay, vtep_mac, pod_cidrs, direct } = peer;
        let traffic = at(&traffic, slot, name::PEER_TRAFFIC)?;
        let route = if direct { "direct" } else { "overlay" };
        Ok(PeerRow { name, underlay, route, pod_cidrs, vtep_mac: mac::show(vtep_mac), traffic })
    };
    let peers = peers.into_iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(PeersReport { node: paths.node().to_owned(), peers })
}

fn state(paths: &NodePaths) -> anyhow::Result<State> {
    let path = paths.state();
    State::read(&path)?.with_context(|| {
        let node = paths.node();
        format!(
            "no {}: no loader has run for node {node}; start it with `loader run --config FILE`",
            path.display()
        )
    })
}

fn at(traffic: &PerCpu<Traffic>, slot: u32, map: &str) -> anyhow::Result<TrafficRow> {
    Ok(TrafficRow::sum(pinned::values(traffic, slot, map)?.iter()))
}
