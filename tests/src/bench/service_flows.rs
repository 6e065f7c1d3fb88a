//! Traffic through services and the masquerade, and the programs that it passes.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::{
    flows::{Flow, Fresh, Traffic, task},
    load::Path,
    services::{Backend, Cluster, PORT, Scenario, client_address},
    topology::Inner,
};
use crate::{frame::Ip, pod::DEVICE};

/// All flows of a cluster of Podlane's.
pub fn of(cluster: &Cluster) -> Result<Vec<Flow<'_>>> {
    let [node, peer] = cluster.podlane().context("a cluster without Podlane")?;
    let pod = node.pods.first().context("a node without pods")?;
    let services = Some(cluster.side.services);
    let flow = |traffic, tasks| Flow { family: Inner::V4, services, traffic, tasks };
    let path = |scenario| cluster.path(scenario);
    let fresh = Fresh {
        from: &pod.netns,
        macs: (pod.netns.mac(DEVICE)?, node.mac()),
        ip: Ip::new(pod.v4()?.into(), IpAddr::from(Backend::Remote.cluster_ip())),
        port: PORT,
    };
    let outside = Path::direct(&pod.netns, cluster.client(), client_address());
    Ok(vec![
        flow(
            Traffic::Datagrams(path(Scenario::ClusterIpLocal)?),
            vec![task(node, "from_pod", "pod to ClusterIP, local backend")],
        ),
        flow(
            Traffic::Datagrams(path(Scenario::ClusterIpRemote)?),
            vec![task(node, "from_pod", "pod to ClusterIP, remote backend: encapsulate")],
        ),
        flow(
            Traffic::RoundTrips(path(Scenario::ClusterIpRemote)?),
            vec![
                task(node, "from_pod", "pod to ClusterIP, remote backend: encapsulate; TCP"),
                task(node, "from_uplink", "its answer: decapsulate; TCP"),
            ],
        ),
        flow(
            Traffic::NewConnections(fresh),
            vec![task(node, "from_pod", "new connection to ClusterIP, remote backend")],
        ),
        flow(
            Traffic::Datagrams(path(Scenario::NodePortRemote)?),
            vec![
                task(node, "from_uplink", "outside to NodePort, remote backend: encapsulate"),
                task(peer, "from_uplink", "the same at the backend's node: decapsulate"),
            ],
        ),
        flow(
            Traffic::RoundTrips(path(Scenario::NodePortLocal)?),
            vec![
                task(node, "from_uplink", "outside to NodePort, local backend; TCP"),
                task(node, "from_pod", "its answer; TCP"),
            ],
        ),
        flow(Traffic::Datagrams(outside), vec![task(node, "from_pod", "pod to outside: masquerade")]),
    ])
}
