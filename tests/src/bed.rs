//! The testbed of services: Podlane nodes behind a router, pods and nodes that serve under their names, hosts outside.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};

use crate::{
    address,
    cluster::{Cluster, Dataplane, Plan, Underlay},
    config::{Config, Protocol, Service, ServicePort},
    netns::Netns,
    outside::{self, Outside},
    pod::Pod,
    podlane_node::PodlaneNode,
    spec::{Family, Route},
    traffic::who::Server,
};

/// Port at which every pod serves, by TCP and by UDP.
pub const SERVING: u16 = 8080;
/// Port at which every node serves at its underlay addresses.
pub const NODE_SERVING: u16 = 9090;

/// The testbed. Servers end before the namespaces under them go.
#[derive(Debug)]
pub struct Bed {
    #[expect(dead_code, reason = "they serve for as long as they are here")]
    servers: Vec<[Server; 2]>,
    /// The nodes and their pods.
    pub cluster: Cluster,
    /// The host outside.
    pub outside: Outside,
}

/// Both families, and what they have for every test.
pub const FAMILIES: [bool; 2] = [true, false];
/// The protocols that every machine has.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

impl Bed {
    /// Two nodes with three pods each, VXLAN between them.
    pub fn two_nodes(configure: impl FnMut(&Facts, &mut Config)) -> Result<Self> {
        Self::start(&[3, 3], Route::Overlay, configure)
    }

    /// Nodes with so many pods each; `configure` completes the configuration of each.
    pub fn start(pods: &[u8], route: Route, mut configure: impl FnMut(&Facts, &mut Config)) -> Result<Self> {
        let nodes: Vec<_> = pods.iter().map(|pods| (Dataplane::Podlane, *pods)).collect();
        let plan = Plan::new(&nodes).underlay(Underlay::Routed).family(Family::Dual).route(route);
        let mut cluster = plan.build()?;
        let router = cluster.router.as_mut().context("a router")?;
        if route == Route::Direct {
            for node in &cluster.podlane {
                node.spec.pod_cidrs.iter().try_for_each(|cidr| outside::lead(router, *cidr, &node.spec))?;
            }
        }
        let outside = Outside::new(Netns::new("outside")?, router, 0)?;
        let mut servers = Vec::new();
        for node in &cluster.podlane {
            let name = format!("worker-{}", node.spec.number);
            servers.push(Server::both(&node.netns, &name, &node.spec.addresses(), NODE_SERVING)?);
        }
        let facts = Facts::of(&cluster);
        for node in &mut cluster.podlane {
            node.config.node.service_cidr = address::service_cidrs().to_vec();
            configure(&facts, &mut node.config);
            node.start()?;
        }
        // Pods have their addresses now.
        for pod in cluster.podlane.iter().flat_map(|node| &node.pods) {
            servers.push(serve(pod)?);
        }
        Ok(Self { servers, cluster, outside })
    }

    /// Node `number`.
    #[must_use]
    pub fn node(&self, number: usize) -> &PodlaneNode {
        &self.cluster.podlane[number]
    }

    /// Pod `pod` of node `node`.
    #[must_use]
    pub fn pod(&self, node: usize, pod: usize) -> &Pod {
        &self.cluster.podlane[node].pods[pod]
    }

    /// The facts.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts::of(&self.cluster)
    }

    /// Changes the configuration of every node.
    pub fn change(&mut self, mut change: impl FnMut(&mut Config)) -> Result<()> {
        for node in &mut self.cluster.podlane {
            change(&mut node.config);
            node.reload_services()?;
        }
        Ok(())
    }

    /// Changes one service on every node.
    pub fn change_service(&mut self, name: &str, mut change: impl FnMut(&mut Service)) -> Result<()> {
        let mut found = Ok(());
        self.change(|config| match config.service(name) {
            Ok(service) => change(service),
            Err(error) => found = Err(error),
        })?;
        found
    }

    /// Makes the network outside bring an address to a node.
    pub fn lead(&self, addresses: &[IpAddr], node: usize) -> Result<()> {
        let router = self.cluster.router.as_ref().context("a router")?;
        addresses
            .iter()
            .try_for_each(|address| outside::lead(router, (*address).into(), &self.node(node).spec))
    }

    /// Whoever calls inside the cluster: a pod of the first node that has backends of its own beside it, and the node.
    #[must_use]
    pub fn callers_inside(&self) -> [(&'static str, &Netns); 2] {
        [("a pod", &self.pod(0, 0).netns), ("the node", &self.node(0).netns)]
    }

    /// The kernel has tracked no connection in any namespace of the cluster.
    pub fn kernel_tracks_nothing(&self) -> Result<()> {
        let nodes = self.cluster.podlane.iter().map(|node| &node.netns);
        let pods = self.cluster.podlane.iter().flat_map(|node| &node.pods).map(|pod| &pod.netns);
        for netns in nodes.chain(pods).chain([&self.outside.netns]) {
            let count =
                netns.enter(|| Ok(std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")));
            let count = count?.unwrap_or_default();
            ensure!(
                ["", "0"].contains(&count.trim()),
                "{} tracks {} connections",
                netns.name(),
                count.trim()
            );
        }
        Ok(())
    }
}

/// Serves in a pod, under the last part of its name.
fn serve(pod: &Pod) -> Result<[Server; 2]> {
    let name = pod.name.rsplit('/').next().unwrap_or(&pod.name);
    Server::both(&pod.netns, name, &pod.ips(), SERVING)
}

/// What configurations are made from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Addresses of each node's pods.
    pub pods: Vec<Vec<Vec<IpAddr>>>,
    /// Underlay addresses of each node.
    pub nodes: Vec<Vec<IpAddr>>,
    /// Name of each node.
    pub names: Vec<String>,
}

impl Facts {
    fn of(cluster: &Cluster) -> Self {
        let nodes = &cluster.podlane;
        Self {
            pods: nodes.iter().map(|node| node.pods.iter().map(Pod::ips).collect()).collect(),
            nodes: nodes.iter().map(|node| node.spec.addresses()).collect(),
            names: nodes.iter().map(|node| node.spec.name.clone()).collect(),
        }
    }

    /// Addresses of pods, given as node and number.
    #[must_use]
    pub fn addresses(&self, pods: &[(usize, usize)]) -> Vec<IpAddr> {
        pods.iter().flat_map(|(node, pod)| self.pods[*node][*pod].clone()).collect()
    }

    /// A service with port 80 by TCP and UDP, and these pods behind it.
    #[must_use]
    pub fn service(&self, name: &str, number: u8, pods: &[(usize, usize)]) -> Service {
        let addresses = self.addresses(pods);
        let port = |protocol| ServicePort::new(protocol, 80).backends(addresses.clone(), SERVING);
        Service::new(&format!("default/{name}"), &address::cluster_ips(number))
            .with(port(Protocol::Tcp).named("tcp"))
            .with(port(Protocol::Udp).named("udp"))
    }

    /// As [`service`](Self::service), with a node port for both protocols.
    #[must_use]
    pub fn node_port_service(
        &self,
        name: &str,
        number: u8,
        node_port: u16,
        pods: &[(usize, usize)],
    ) -> Service {
        let mut service = self.service(name, number, pods);
        for port in &mut service.ports {
            port.node_port = Some(node_port);
        }
        service
    }
}

/// Port 80 of the `number`th service.
#[must_use]
pub fn cluster_ip(number: u8, ipv4: bool) -> SocketAddr {
    SocketAddr::new(address::cluster_ips(number)[usize::from(!ipv4)], 80)
}

/// Port 80 of the `number`th service in the world outside.
#[must_use]
pub fn external_ip(number: u8, ipv4: bool) -> SocketAddr {
    SocketAddr::new(address::external_ips(number)[usize::from(!ipv4)], 80)
}
