//! What is compared: the same pods and nodes, joined by one wire, by the kernel's parts, and by Podlane.

use std::{net::IpAddr, process};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::Serialize;

use super::{bare::Bare, load::Path};
use crate::{
    address, foreign,
    kernel_node::{self, KernelVtepNode},
    netns::Netns,
    pod::{DEVICE, Pod},
    podlane_node::PodlaneNode,
    spec::{Family, Route, Spec},
    traffic,
    wire::{self, Switch},
};

/// Of the underlay.
pub const MTU: u32 = 1500;
/// What VXLAN adds over IPv4.
pub const ENCAPSULATION: u32 = 50;
const PODS: u8 = 2;

/// A path of one of the topologies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Two namespaces, one veth pair.
    Wire,
    /// Two pods on one bridge.
    KernelSameNode,
    /// Two pods of one Podlane node.
    PodlaneSameNode,
    /// Pods of two nodes with bridges, kernel VXLAN devices and flannel's routes.
    KernelOtherNode,
    /// Pods of two Podlane nodes, in VXLAN.
    PodlaneOtherNode,
    /// Two pods whose packets a program redirects, and nothing else.
    BareSameNode,
    /// Pods of two nodes whose programs put constant VXLAN headers before packets and take them off, and nothing else.
    BareOtherNode,
    /// Pods of two nodes with bridges and a route to each other's pods, without VXLAN.
    KernelDirectRouting,
    /// Pods of two Podlane nodes that route to each other's pods, without VXLAN.
    PodlaneDirectRouting,
}

impl Side {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Wire,
        Self::KernelSameNode,
        Self::PodlaneSameNode,
        Self::KernelOtherNode,
        Self::PodlaneOtherNode,
        Self::BareSameNode,
        Self::BareOtherNode,
        Self::KernelDirectRouting,
        Self::PodlaneDirectRouting,
    ];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wire => "bare wire",
            Self::KernelSameNode => "kernel, same node",
            Self::PodlaneSameNode => "Podlane, same node",
            Self::KernelOtherNode => "kernel, other node",
            Self::PodlaneOtherNode => "Podlane, other node",
            Self::BareSameNode => "bare eBPF, same node",
            Self::BareOtherNode => "bare eBPF, other node",
            Self::KernelDirectRouting => "kernel, direct routing",
            Self::PodlaneDirectRouting => "Podlane, direct routing",
        }
    }
}

/// All topologies, up at the same time.
#[derive(Debug)]
pub struct Topologies {
    wire: [Pod; 2],
    kernel: [KernelVtepNode; 2],
    podlane: [PodlaneNode; 2],
    /// None where the kernel has no TCX.
    bare: Option<Bare>,
    kernel_routed: [KernelVtepNode; 2],
    podlane_routed: [PodlaneNode; 2],
}

impl Topologies {
    /// Makes the namespaces and starts a loader on each of Podlane's nodes.
    pub fn build() -> Result<Self> {
        // What is routed as it is needs an underlay of its family.
        let underlay = |label, route| {
            Underlay::new(label, if route == Route::Direct { Family::Dual } else { Family::V4 })
        };
        let kernel = |label, route| kernel_on(underlay(label, route)?, route);
        let podlane = |label, route| -> Result<_> {
            let mut nodes = podlane_stopped(underlay(label, route)?, &["eth0"], route)?;
            nodes.iter_mut().try_for_each(PodlaneNode::start)?;
            Ok(nodes)
        };
        let podlane_routed = podlane("podlane-routed", Route::Direct)?;
        // The kernel does not resolve an IPv4 next hop for an IPv6 packet that a program redirects to it.
        let [near, far] = &podlane_routed;
        traffic::ping(&near.pods[0].netns, far.pods[0].v4()?)?;
        Ok(Self {
            wire: bare_wire()?,
            kernel: kernel("kernel", Route::Overlay)?,
            podlane: podlane("podlane", Route::Overlay)?,
            bare: foreign::has_tcx().is_ok().then(Bare::build).transpose()?,
            kernel_routed: kernel("kernel-routed", Route::Direct)?,
            podlane_routed,
        })
    }

    /// Which sides there are on this kernel.
    #[must_use]
    pub fn sides(&self) -> Vec<Side> {
        let is_bare = |side: &Side| matches!(side, Side::BareSameNode | Side::BareOtherNode);
        Side::ALL.into_iter().filter(|side| self.bare.is_some() || !is_bare(side)).collect()
    }

    /// The way that one side's packets go, with addresses of one family.
    pub fn path(&self, side: Side, family: Inner) -> Result<Path<'_>> {
        let [kernel, kernel_peer] = &self.kernel;
        let [podlane, podlane_peer] = &self.podlane;
        match side {
            Side::Wire => between(&self.wire[0], &self.wire[1], family),
            Side::KernelSameNode => between(&kernel.pods[0], &kernel.pods[1], family),
            Side::PodlaneSameNode => between(&podlane.pods[0], &podlane.pods[1], family),
            Side::KernelOtherNode => between(&kernel.pods[0], &kernel_peer.pods[0], family),
            Side::PodlaneOtherNode => between(&podlane.pods[0], &podlane_peer.pods[0], family),
            Side::BareSameNode | Side::BareOtherNode => {
                let Bare { same_node, other_node, .. } = self
                    .bare
                    .as_ref()
                    .context("bare programs are attached by TCX, which this kernel has not")?;
                let [from, to] = if side == Side::BareSameNode { same_node } else { other_node };
                between(from, to, family)
            }
            Side::KernelDirectRouting => {
                let [near, far] = &self.kernel_routed;
                between(&near.pods[0], &far.pods[0], family)
            }
            Side::PodlaneDirectRouting => {
                let [near, far] = &self.podlane_routed;
                between(&near.pods[0], &far.pods[0], family)
            }
        }
    }

    /// Podlane's two nodes, with VXLAN between them.
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
fn bare_wire() -> Result<[Pod; 2]> {
    let spec = Spec::new("bench-wire-", 0, Family::V4, false);
    let pods = [pod(&spec, "wire", 0)?, pod(&spec, "wire", 1)?];
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
    pub fn new(label: &str, family: Family) -> Result<Self> {
        Self::joined(label, family, |[left, right]| wire::wire((left, "eth0"), (right, "eth0"), MTU))
    }

    /// The same with a switch between them, which has room for more.
    pub fn on_a_switch(label: &str) -> Result<(Self, Switch)> {
        let mut switch = Switch::new(MTU)?;
        let join = |netns: &[Netns; 2]| netns.iter().try_for_each(|node| switch.plug(node, "eth0").map(drop));
        Ok((Self::joined(label, Family::V4, join)?, switch))
    }

    fn joined(label: &str, family: Family, join: impl FnOnce(&[Netns; 2]) -> Result<()>) -> Result<Self> {
        let prefix = format!("bench{}-{label}-", process::id());
        let specs = [0, 1].map(|number| Spec::new(&prefix, number, family, false));
        let netns = [Netns::new(&format!("{label}-worker-0"))?, Netns::new(&format!("{label}-worker-1"))?];
        netns.iter().try_for_each(wire::without_dad)?;
        join(&netns)?;
        for (netns, spec) in netns.iter().zip(&specs) {
            spec.underlay.iter().try_for_each(|address| wire::add_address(netns, "eth0", *address))?;
        }
        Ok(Self { label: label.to_owned(), specs, netns })
    }
}

/// Two nodes as flannel makes them, with their pods: in its VXLAN mode, or in the one that only sets routes.
pub fn kernel_on(underlay: Underlay, route: Route) -> Result<[KernelVtepNode; 2]> {
    let Underlay { label, specs: [first, second], netns: [left, right] } = underlay;
    // Pods' packets are as large as the underlay takes; the VXLAN device is there in any case.
    let mtu = if route == Route::Direct { MTU + ENCAPSULATION } else { MTU };
    let options = kernel_node::Options { mtu, ..kernel_node::Options::default() };
    let mut nodes = [
        KernelVtepNode::new(first.clone(), left, options)?,
        KernelVtepNode::new(second.clone(), right, options)?,
    ];
    for (node, peer) in nodes.iter_mut().zip([second, first]) {
        node.add_peer(&peer, route)?;
        for number in 0..PODS {
            node.add_pod(pod(&node.spec, &label, number)?)?;
        }
    }
    Ok(nodes)
}

/// Two nodes with their pods, before their loaders are started. The first may have more uplinks than `eth0`.
pub fn podlane_stopped(underlay: Underlay, uplinks: &[&str], route: Route) -> Result<[PodlaneNode; 2]> {
    let Underlay { label, specs: [first, second], netns: [left, right] } = underlay;
    let mut nodes = [PodlaneNode::new(first.clone(), left)?, PodlaneNode::new(second.clone(), right)?];
    for (node, peer) in nodes.iter_mut().zip([second, first]) {
        node.add_peer(&peer, route);
        node.config.overlay.mtu = (route == Route::Direct).then_some(MTU);
        for number in 0..PODS {
            let pod = pod(&node.spec, &label, number)?;
            node.add_pod(pod);
        }
    }
    nodes[0].config.node.uplink = uplinks.iter().map(|&uplink| uplink.to_owned()).collect();
    Ok(nodes)
}

/// A pod that is not joined to its node yet.
pub fn pod(spec: &Spec, topology: &str, number: u8) -> Result<Pod> {
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
