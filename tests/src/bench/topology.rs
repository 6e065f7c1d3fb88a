//! What is compared: the same pods and nodes, joined by one wire, by the kernel's parts, and by Podlane.

use std::{net::IpAddr, process};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::Serialize;

use super::load::Path;
use crate::{
    address,
    kernel_node::{self, KernelVtepNode},
    netns::Netns,
    pod::{DEVICE, Pod},
    podlane_node::PodlaneNode,
    spec::{Family, Route, Spec},
    wire,
};

const MTU: u32 = 1500;
const PODS: u8 = 2;

/// A path of one of the topologies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Two namespaces, one veth pair.
    Direct,
    /// Two pods on one bridge.
    KernelSameNode,
    /// Two pods of one Podlane node.
    PodlaneSameNode,
    /// Pods of two nodes with bridges, kernel VXLAN devices and flannel's routes.
    KernelOtherNode,
    /// Pods of two Podlane nodes.
    PodlaneOtherNode,
}

impl Side {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::KernelSameNode,
        Self::PodlaneSameNode,
        Self::KernelOtherNode,
        Self::PodlaneOtherNode,
    ];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::KernelSameNode => "kernel, same node",
            Self::PodlaneSameNode => "Podlane, same node",
            Self::KernelOtherNode => "kernel, other node",
            Self::PodlaneOtherNode => "Podlane, other node",
        }
    }
}

/// All topologies, up at the same time.
#[derive(Debug)]
pub struct Topologies {
    direct: [Pod; 2],
    kernel: [KernelVtepNode; 2],
    podlane: [PodlaneNode; 2],
}

impl Topologies {
    /// Makes the namespaces and starts a loader on each of Podlane's nodes.
    pub fn build() -> Result<Self> {
        let kernel = kernel_on(Underlay::new("kernel")?)?;
        let mut podlane = podlane_stopped(Underlay::new("podlane")?, &["eth0"])?;
        podlane.iter_mut().try_for_each(PodlaneNode::start)?;
        Ok(Self { direct: direct()?, kernel, podlane })
    }

    /// The way that one side's packets go, with addresses of one family.
    pub fn path(&self, side: Side, family: Inner) -> Result<Path<'_>> {
        let [kernel, kernel_peer] = &self.kernel;
        let [podlane, podlane_peer] = &self.podlane;
        match side {
            Side::Direct => between(&self.direct[0], &self.direct[1], family),
            Side::KernelSameNode => between(&kernel.pods[0], &kernel.pods[1], family),
            Side::PodlaneSameNode => between(&podlane.pods[0], &podlane.pods[1], family),
            Side::KernelOtherNode => between(&kernel.pods[0], &kernel_peer.pods[0], family),
            Side::PodlaneOtherNode => between(&podlane.pods[0], &podlane_peer.pods[0], family),
        }
    }

    /// Podlane's two nodes.
    #[must_use]
    pub const fn podlane(&self) -> &[PodlaneNode; 2] {
        &self.podlane
    }
}

/// Family of the packets of pods; the underlay is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Inner {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Inner {
    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The first of some addresses that is of this family.
    pub fn first_of(self, addresses: &[IpNet]) -> Result<IpAddr> {
        let mut addresses = addresses.iter().map(IpNet::addr);
        let found = addresses.find(|address| address.is_ipv4() == (self == Self::V4));
        found.with_context(|| format!("no {} address", self.name()))
    }
}

fn between<'a>(from: &'a Pod, to: &'a Pod, family: Inner) -> Result<Path<'a>> {
    Ok(Path::direct(&from.netns, &to.netns, family.first_of(&to.addresses)?))
}

/// Two namespaces with one veth pair between them and an address of a common prefix each.
fn direct() -> Result<[Pod; 2]> {
    let spec = Spec::new("bench-direct-", 0, Family::V4, false);
    let pods = [pod(&spec, "direct", 0)?, pod(&spec, "direct", 1)?];
    let [left, right] = &pods;
    wire::wire((&left.netns, DEVICE), (&right.netns, DEVICE), MTU)?;
    for pod in &pods {
        pod.addresses.iter().try_for_each(|address| wire::add_address(&pod.netns, DEVICE, *address))?;
    }
    Ok(pods)
}

/// Two nodes' namespaces with one veth pair between them: no switch, so that only the dataplanes differ.
#[derive(Debug)]
pub struct Underlay {
    /// Goes into the names of namespaces.
    label: String,
    /// What the nodes are to each other.
    pub specs: [Spec; 2],
    /// Their namespaces, with the uplink `eth0`.
    pub netns: [Netns; 2],
}

impl Underlay {
    /// Makes the namespaces. Nodes' names tell those of several runs apart: pins and runtime state lie under them.
    pub fn new(label: &str) -> Result<Self> {
        let prefix = format!("bench{}-{label}-", process::id());
        let specs = [0, 1].map(|number| Spec::new(&prefix, number, Family::V4, false));
        let netns = [Netns::new(&format!("{label}-worker-0"))?, Netns::new(&format!("{label}-worker-1"))?];
        wire::wire((&netns[0], "eth0"), (&netns[1], "eth0"), MTU)?;
        for (netns, spec) in netns.iter().zip(&specs) {
            spec.underlay.iter().try_for_each(|address| wire::add_address(netns, "eth0", *address))?;
        }
        Ok(Self { label: label.to_owned(), specs, netns })
    }
}

/// Two nodes as flannel makes them, with their pods.
pub fn kernel_on(underlay: Underlay) -> Result<[KernelVtepNode; 2]> {
    let Underlay { label, specs: [first, second], netns: [left, right] } = underlay;
    let options = kernel_node::Options { mtu: MTU, ..kernel_node::Options::default() };
    let mut nodes = [
        KernelVtepNode::new(first.clone(), left, options)?,
        KernelVtepNode::new(second.clone(), right, options)?,
    ];
    for (node, peer) in nodes.iter_mut().zip([second, first]) {
        node.add_peer(&peer, Route::Overlay)?;
        for number in 0..PODS {
            node.add_pod(pod(&node.spec, &label, number)?)?;
        }
    }
    Ok(nodes)
}

/// Two nodes with their pods, before their loaders are started. The first may have more uplinks than `eth0`.
pub fn podlane_stopped(underlay: Underlay, uplinks: &[&str]) -> Result<[PodlaneNode; 2]> {
    let Underlay { label, specs: [first, second], netns: [left, right] } = underlay;
    let mut nodes = [PodlaneNode::new(first.clone(), left)?, PodlaneNode::new(second.clone(), right)?];
    for (node, peer) in nodes.iter_mut().zip([second, first]) {
        node.add_peer(&peer, Route::Overlay);
        for number in 0..PODS {
            let pod = pod(&node.spec, &label, number)?;
            node.add_pod(pod);
        }
    }
    nodes[0].config.node.uplink = uplinks.iter().map(|&uplink| uplink.to_owned()).collect();
    Ok(nodes)
}

fn pod(spec: &Spec, topology: &str, number: u8) -> Result<Pod> {
    let label = format!("{topology}-pod-{}-{number}", spec.number);
    let netns = Netns::new(&label)?;
    // A path that is broken is to be an error within seconds, not minutes.
    netns.sysctl("net.ipv4.tcp_syn_retries", "2")?;
    Pod::new(&format!("bench/{label}"), netns, spec.pod_addresses(number))
}

/// An address in the pods' range that no pod has.
#[must_use]
pub fn nobodys(like: IpAddr) -> IpAddr {
    let cidr = if like.is_ipv4() { address::pod_cidr4(77) } else { address::pod_cidr6(77) };
    address::host(cidr, 7)
}
