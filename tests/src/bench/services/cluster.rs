//! Two nodes, three pods and a client outside, whose services are translated by one of the dataplanes.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    kernel,
    plan::{self, Backend},
    podlane,
    scenario::{Dataplane, Scenario, Side},
};
use crate::{
    address,
    bench::{load::Path, topology},
    kernel_node::KernelVtepNode,
    netns::Netns,
    pod::{DEVICE, Pod},
    podlane_node::PodlaneNode,
    wire,
};

/// The node's device towards the client.
const TO_CLIENT: &str = "eth1";
const MTU: u32 = 1500;

/// The cluster, up and with its services loaded.
#[derive(Debug)]
pub struct Cluster {
    /// What it is one of.
    pub side: Side,
    /// How long both nodes took to load their services, at the same time.
    pub loaded: Duration,
    nodes: Nodes,
    client: Netns,
}

/// The first is called, the second has the remote backend.
#[derive(Debug)]
enum Nodes {
    Kernel(Box<[KernelVtepNode; 2]>),
    Podlane(Box<[PodlaneNode; 2]>),
}

impl Cluster {
    /// Makes the namespaces and loads the services on both nodes.
    pub fn build(side: Side, backends: u8) -> Result<Self> {
        let services = plan::services(side.services, backends);
        let label = format!("{}-{}", side.dataplane.name().to_lowercase(), side.services);
        let underlay = topology::Underlay::new(&label)?;
        let called = underlay.netns.first().context("an underlay without nodes")?;
        let node = underlay.specs.first().context("an underlay without nodes")?.address();
        let client = client(&label, called, node)?;
        let (nodes, begin) = match side.dataplane {
            Dataplane::Podlane => {
                let mut nodes = topology::podlane_stopped(underlay, &["eth0", TO_CLIENT])?;
                podlane::start(&mut nodes, &services)?;
                let begin = Instant::now();
                podlane::load(&mut nodes, &services)?;
                (Nodes::Podlane(Box::new(nodes)), begin)
            }
            Dataplane::Iptables | Dataplane::Nftables => {
                let nodes = topology::kernel_on(underlay)?;
                let begin = Instant::now();
                kernel::load(&nodes, side.dataplane, &services)?;
                (Nodes::Kernel(Box::new(nodes)), begin)
            }
        };
        Ok(Self { side, loaded: begin.elapsed(), nodes, client })
    }

    /// The way from a scenario's client to its backend.
    pub fn path(&self, scenario: Scenario) -> Result<Path<'_>> {
        let backend = scenario.backend();
        let [called, other] = self.pods();
        let (local, remote) = (called.get(1), other.first());
        let to = match backend {
            Backend::Local => local,
            Backend::Remote => remote,
        };
        let to = to.context("a node without a backend")?;
        let from = called.first().context("a node without a client")?;
        let (from, by) = if scenario.is_from_outside() {
            (&self.client, backend.by_node_port(self.node()))
        } else {
            (&from.netns, backend.by_cluster_ip())
        };
        Ok(Path { from, to: &to.netns, address: backend.address().into(), by: Some(by) })
    }

    /// Errs where connection tracking had no room, or was at work where it must not be: either makes figures wrong.
    pub fn check(&self) -> Result<()> {
        match &self.nodes {
            Nodes::Kernel(nodes) => nodes.iter().try_for_each(|node| kernel::had_room(&node.netns)),
            Nodes::Podlane(nodes) => nodes.iter().try_for_each(|node| kernel::tracks_nothing(&node.netns)),
        }
    }

    /// Podlane's nodes, if these are.
    #[must_use]
    pub fn podlane(&self) -> Option<&[PodlaneNode; 2]> {
        match &self.nodes {
            Nodes::Podlane(nodes) => Some(nodes),
            Nodes::Kernel(_) => None,
        }
    }

    /// The client outside.
    #[must_use]
    pub const fn client(&self) -> &Netns {
        &self.client
    }

    fn node(&self) -> IpAddr {
        match &self.nodes {
            Nodes::Kernel(nodes) => nodes[0].spec.address(),
            Nodes::Podlane(nodes) => nodes[0].spec.address(),
        }
    }

    fn pods(&self) -> [&[Pod]; 2] {
        match &self.nodes {
            Nodes::Kernel(nodes) => nodes.each_ref().map(|node| node.pods.as_slice()),
            Nodes::Podlane(nodes) => nodes.each_ref().map(|node| node.pods.as_slice()),
        }
    }
}

/// Address of the client outside.
#[must_use]
pub fn client_address() -> IpAddr {
    address::host(address::underlay4(0), 99)
}

/// A namespace in the subnet of the nodes, on a cable of its own: no switch, whose cost would be in every figure.
fn client(label: &str, node: &Netns, node_address: IpAddr) -> Result<Netns> {
    let client = Netns::new(&format!("{label}-client"))?;
    wire::wire((&client, DEVICE), (node, TO_CLIENT), MTU)?;
    let subnet = address::underlay4(0);
    let own = client_address();
    wire::add_address(&client, DEVICE, address::with_prefix(own, subnet))?;
    node.ip(&format!("route add {own} dev {TO_CLIENT} src {node_address}"))?;
    Ok(client)
}
