//! What the node should look like: the configuration, validated, with nothing left to parse.
//!
//! Peers, pods and services are sorted by name, so that equal configurations give equal states.

mod capacities;
mod conntrack;
mod masquerade;
mod mtu;
mod node;
pub mod placement;
pub mod selection;
pub mod services;
mod sockets;
mod tc;
mod xdp;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::Serialize;

pub use self::{
    capacities::Capacities,
    conntrack::Timeouts,
    masquerade::{DEFAULT_PORTS, Masquerade},
    mtu::{MAX_MTU, MIN_MTU4, MIN_MTU6, MtuError, OVERHEAD4, OVERHEAD6},
    node::{Node, gateway_of},
    services::{HealthCheck, ServicePort},
    sockets::{DEFAULT_CGROUP, SocketMode, Sockets},
    tc::TcMode,
    xdp::XdpMode,
};
use crate::mac::{self, Mac};

/// Everything that the node should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// This node.
    pub node: Node,
    /// The tunnel.
    pub overlay: Overlay,
    /// The other nodes, sorted by name.
    pub peers: Vec<Peer>,
    /// The pods of this node, sorted by name.
    pub pods: Vec<Pod>,
    /// The ports of all services, and the host ports of pods: sorted by [`ServicePort::key`], which is unique.
    pub services: Vec<ServicePort>,
    /// Answers to load balancers that ask whether this node has endpoints; sorted by port.
    pub health_checks: Vec<HealthCheck>,
    /// Whether ICMP echo requests to service addresses are answered.
    pub echo: bool,
    /// Masquerading of what pods send out of the cluster.
    pub masquerade: Masquerade,
    /// When connections are forgotten.
    pub timeouts: Timeouts,
    /// Sizes of the maps.
    pub capacities: Capacities,
    /// For which sockets services are resolved.
    pub sockets: Sockets,
    /// Whether and how packets are taken at the uplinks' drivers.
    pub xdp: XdpMode,
    /// How programs are attached at traffic control.
    pub tc: TcMode,
}

/// The tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Overlay {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Largest packet inside the tunnel, as configured; `None`: what the uplinks take less the encapsulation, see
    /// [`Desired::overlay_mtu`].
    pub mtu: Option<u32>,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { vni: DEFAULT_VNI, port: DEFAULT_PORT, mtu: None }
    }
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// All its underlay addresses.
    pub addresses: Vec<IpAddr>,
    /// The one it is reached at: the first of a family that this node has too.
    pub underlay: IpAddr,
    /// MAC of its VTEP: inner destination of what is sent to it.
    #[serde(serialize_with = "mac::serialize")]
    pub vtep_mac: Mac,
    /// Where its pods have their addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// Reached as plain routed packets instead of in the tunnel.
    pub direct: bool,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Name, `namespace/name`.
    pub name: String,
    /// File of its network namespace.
    pub netns: PathBuf,
    /// Name of its device, in its namespace.
    pub interface: String,
    /// Its addresses, in the order of the configuration.
    pub addresses: Vec<IpAddr>,
    /// What it may send from besides its own addresses.
    pub allowed_sources: Vec<IpNet>,
}

/// Name of the gateway device unless configured.
pub const DEFAULT_GATEWAY: &str = "podlane0";
/// Name of a pod's device, in its namespace, unless configured.
pub const DEFAULT_INTERFACE: &str = "eth0";
/// VXLAN network identifier unless configured: flannel's.
pub const DEFAULT_VNI: u32 = 1;
/// VXLAN's UDP port unless configured: that of flannel, and of Linux.
pub const DEFAULT_PORT: u16 = 8472;

impl Desired {
    /// Whether any peer is reached without encapsulation.
    #[must_use]
    pub fn has_direct_peer(&self) -> bool {
        self.peers.iter().any(|peer| peer.direct)
    }

    /// Whether other nodes hand callers on to this one.
    #[must_use]
    pub fn is_handed_callers(&self) -> bool {
        let mut exposures = self.services.iter().flat_map(|port| &port.exposures);
        exposures.any(|exposure| exposure.kind == services::Kind::HandedOn)
    }

    /// Whether an address is this node's on the underlay or at which its node ports are called, or a peer's.
    #[must_use]
    pub fn is_node_address(&self, address: IpAddr) -> bool {
        self.node.underlays().any(|own| own == address)
            || self.node.node_port_addresses.contains(&address)
            || self.peers.iter().any(|peer| peer.addresses.contains(&address))
    }

    /// The addresses that stand for services and for nothing else: whatever port of them no service has is nobody's.
    #[must_use]
    pub fn service_addresses(&self) -> BTreeSet<IpAddr> {
        let nodes: BTreeSet<_> = self
            .node
            .underlays()
            .chain(self.node.node_port_addresses.iter().copied())
            .chain(self.peers.iter().flat_map(|peer| peer.addresses.iter().copied()))
            .collect();
        let exposures = self.services.iter().flat_map(|port| &port.exposures);
        exposures
            .filter(|exposure| exposure.kind.has_own_addresses())
            .flat_map(|exposure| exposure.frontends.iter().map(|(address, _)| *address))
            .filter(|address| !nodes.contains(address))
            .collect()
    }
}

impl Pod {
    /// MAC of its own end of the veth pair.
    #[must_use]
    pub fn mac(&self) -> Mac {
        mac::of_pod(&self.addresses)
    }
}
