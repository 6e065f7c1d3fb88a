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
    address::{self, Mac},
    bench::{
        load::Path,
        topology::{self, Underlay},
    },
    foreign::Foreign,
    kernel_node::{self, KernelVtepNode},
    netns::Netns,
    pod::{DEVICE, Pod},
    podlane_node::PodlaneNode,
    spec::{Family, Route},
    wire::{self, Switch},
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
    _switch: Option<XdpSwitch>,
}

/// What lies between the nodes and the client outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// A cable from node to node and one from the client to the first of them: nothing else costs anything.
    Cables,
    /// The same, and nodes route to each other's pods instead of putting packets into VXLAN.
    DirectRouting,
    /// One switch. A node port's packets leave by the uplink that they came by, as XDP needs it, and all are as a wire has them.
    Switch,
}

/// The first is called, the second has the remote backend.
#[derive(Debug)]
enum Nodes {
    Kernel(Box<[KernelVtepNode; 2]>),
    Podlane(Box<[PodlaneNode; 2]>),
}

impl Cluster {
    /// Makes the namespaces and loads the services on both nodes.
    pub fn build(side: Side, backends: u8, wiring: Wiring) -> Result<Self> {
        let services = plan::services(side.services, backends);
        let label = format!("{}-{}", side.dataplane.label(), side.services);
        // What is routed as it is needs an underlay of its family.
        let family = if wiring == Wiring::DirectRouting { Family::Dual } else { Family::V4 };
        let client = Netns::new(&format!("{label}-client"))?;
        let (underlay, switch) = match wiring {
            Wiring::Cables | Wiring::DirectRouting => {
                let underlay = Underlay::new(&label, family)?;
                connect(&client, &underlay)?;
                (underlay, None)
            }
            Wiring::Switch => {
                let (underlay, switch) = Underlay::on_a_switch(&label)?;
                (underlay, Some(switch))
            }
        };
        let switch = switch.map(|switch| XdpSwitch::of(switch, &client, &underlay)).transpose()?;
        let route = if wiring == Wiring::DirectRouting { Route::Direct } else { Route::Overlay };
        let uplinks: &[&str] = if switch.is_some() { &["eth0"] } else { &["eth0", TO_CLIENT] };
        let (nodes, begin) = match side.dataplane {
            Dataplane::Podlane | Dataplane::PodlaneXdp | Dataplane::PodlaneSockets => {
                let mut nodes = topology::podlane_stopped(underlay, uplinks, route)?;
                for node in &mut nodes {
                    podlane::configure(side.dataplane, &mut node.config)?;
                }
                podlane::start(&mut nodes, &services)?;
                let begin = Instant::now();
                podlane::load(&mut nodes, &services)?;
                (Nodes::Podlane(Box::new(nodes)), begin)
            }
            Dataplane::Iptables | Dataplane::Nftables => {
                let nodes = topology::kernel_on(underlay, route)?;
                let begin = Instant::now();
                kernel::load(&nodes, side.dataplane, &services)?;
                (Nodes::Kernel(Box::new(nodes)), begin)
            }
        };
        Ok(Self { side, loaded: begin.elapsed(), nodes, client, _switch: switch })
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
        let (from, by) = match scenario {
            Scenario::PodLocal | Scenario::PodRemote => (&from.netns, None),
            Scenario::ClusterIpLocal | Scenario::ClusterIpRemote => {
                (&from.netns, Some(backend.by_cluster_ip()))
            }
            Scenario::NodePortLocal | Scenario::NodePortRemote => {
                (&self.client, Some(backend.by_node_port(self.node())))
            }
        };
        Ok(Path { from, to: &to.netns, address: backend.address().into(), by })
    }

    /// Errs where connection tracking had no room, or was at work where it must not be: either makes figures wrong.
    pub fn check(&self) -> Result<()> {
        match &self.nodes {
            Nodes::Kernel(nodes) => nodes.iter().try_for_each(|node| kernel::had_room(&node.netns)),
            Nodes::Podlane(nodes) => {
                podlane::ran_where_it_should(self.side.dataplane, nodes)?;
                nodes.iter().try_for_each(|node| kernel::tracks_nothing(&node.netns))
            }
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

    /// The pods of the node that is called, and the MAC address of their gateway.
    pub fn callers(&self) -> Result<(&[Pod], Mac)> {
        let [pods, _] = self.pods();
        let gateway = match &self.nodes {
            Nodes::Kernel(nodes) => nodes[0].netns.mac(kernel_node::BRIDGE)?,
            Nodes::Podlane(nodes) => nodes[0].mac(),
        };
        Ok((pods, gateway))
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

/// Gives the client a cable to the first node: no switch, whose cost would be in every figure.
fn connect(client: &Netns, underlay: &Underlay) -> Result<()> {
    let node = underlay.netns.first().context("an underlay without nodes")?;
    let own_address = underlay.specs.first().context("an underlay without nodes")?.address();
    wire::wire((client, DEVICE), (node, TO_CLIENT), MTU)?;
    add_client_address(client)?;
    node.ip(&format!("route add {} dev {TO_CLIENT} src {own_address}", client_address()))?;
    Ok(())
}

fn add_client_address(client: &Netns) -> Result<()> {
    wire::add_address(client, DEVICE, address::with_prefix(client_address(), address::underlay4(0)))
}

/// A switch that takes what XDP sends back, and at which packets are as a wire has them.
#[derive(Debug)]
struct XdpSwitch {
    /// A veth takes what its peer's XDP program sends back only if it runs one, too.
    _ports: Vec<Foreign>,
    _switch: Switch,
}

impl XdpSwitch {
    /// Connects the client, too. Whatever dataplane the nodes have: its cost is the same for all.
    fn of(mut switch: Switch, client: &Netns, underlay: &Underlay) -> Result<Self> {
        switch.plug(client, DEVICE)?;
        add_client_address(client)?;
        let ports = PORTS.map(|port| Foreign::attach_xdp(switch.netns(), port));
        let ends = underlay.netns.iter().map(|node| (node, "eth0"));
        let ports_of_switch = PORTS.map(|port| (switch.netns(), port));
        for (netns, device) in ends.chain([(client, DEVICE)]).chain(ports_of_switch) {
            // Checksums are complete, and nothing is longer than a frame.
            for offload in ["tx", "tso", "gso"] {
                wire::set_offload(netns, device, offload, false)?;
            }
        }
        Ok(Self { _ports: ports.into_iter().collect::<Result<_>>()?, _switch: switch })
    }
}

/// Ports of the switch: both nodes and the client.
const PORTS: [&str; 3] = ["port0", "port1", "port2"];
