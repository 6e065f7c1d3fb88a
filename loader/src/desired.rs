//! What the node should look like: the configuration, validated, with nothing left to parse.
//!
//! Peers and pods are sorted by name, so that equal configurations give equal states.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::Serialize;
use thiserror::Error;

use crate::mac::Mac;

/// Everything that the node should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// This node.
    pub node: Node,
    /// The tunnel.
    pub overlay: Overlay,
    /// The other nodes, sorted by name.
    pub peers: Vec<Peer>,
    /// The pods of this node, sorted by name.
    pub pods: Vec<Pod>,
    /// Sizes of the maps.
    pub capacities: Capacities,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Name; a valid path component.
    pub name: String,
    /// Devices that carry the underlay.
    pub uplinks: Vec<String>,
    /// MAC of the VTEP, of the gateway device and of the host side of every veth pair.
    pub mac: Mac,
    /// Name of the gateway device.
    pub gateway_device: String,
    /// The IPv4 pods' gateway: first address of the first IPv4 pod CIDR.
    pub gateway4: Option<Ipv4Addr>,
    /// The IPv6 pods' gateway: first address of the first IPv6 pod CIDR.
    pub gateway6: Option<Ipv6Addr>,
    /// IPv4 address on the underlay.
    pub underlay4: Option<Ipv4Addr>,
    /// IPv6 address on the underlay.
    pub underlay6: Option<Ipv6Addr>,
    /// Where this node's pods have their addresses, as in the configuration.
    pub pod_cidrs: Vec<IpNet>,
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
    /// Its addresses: one of each family at most, in any order.
    pub addresses: Vec<IpAddr>,
    /// What it may send from besides its own addresses.
    pub allowed_sources: Vec<IpNet>,
}

/// Sizes of the maps, in entries; see [`common::maps::capacity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacities {
    /// Local pods.
    pub pods: u32,
    /// Peers.
    pub peers: u32,
    /// Prefixes, per family.
    pub routes: u32,
    /// Prefixes that pods may send from, per family.
    pub sources: u32,
}

impl Default for Capacities {
    fn default() -> Self {
        use common::maps::capacity::{PEERS, PODS, ROUTES, SOURCES};
        Self { pods: PODS, peers: PEERS, routes: ROUTES, sources: SOURCES }
    }
}

/// What VXLAN adds to a packet of the tunnel in an IPv4 underlay: inner Ethernet, VXLAN, UDP and IPv4 header.
pub const OVERHEAD4: u32 = 14 + 8 + 8 + 20;
/// As [`OVERHEAD4`], in an IPv6 underlay.
pub const OVERHEAD6: u32 = 14 + 8 + 8 + 40;
/// Smallest MTU that IPv6 works with (RFC 8200, section 5).
pub const MIN_MTU6: u32 = 1280;
/// Smallest datagram that every IPv4 host takes (RFC 791), so the smallest MTU that is of use.
pub const MIN_MTU4: u32 = 576;

/// Why there is no MTU for the overlay.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MtuError {
    /// Nothing to derive it from.
    #[error("no uplink to derive the overlay's MTU from; set overlay.mtu")]
    NoUplink,
    /// What the uplinks leave is less than a pod needs.
    #[error(
        "an uplink MTU of {uplink} less {overhead} for VXLAN leaves {left}, and {family} pods need at least {least}; \
         raise the MTU of the uplink"
    )]
    UplinkTooSmall {
        /// Smallest MTU of the uplinks.
        uplink: u32,
        /// What VXLAN adds.
        overhead: u32,
        /// What is left.
        left: u32,
        /// Smallest MTU that does.
        least: u32,
        /// Family that needs it.
        family: &'static str,
    },
    /// What is configured does not fit into the uplinks.
    #[error(
        "overlay.mtu is {configured}, but an uplink MTU of {uplink} less {overhead} for VXLAN leaves {left}; lower \
         overlay.mtu or raise the MTU of the uplink"
    )]
    DoesNotFit {
        /// As configured.
        configured: u32,
        /// Smallest MTU of the uplinks.
        uplink: u32,
        /// What VXLAN adds.
        overhead: u32,
        /// What is left.
        left: u32,
    },
}

impl Desired {
    /// What VXLAN adds to a packet: that of IPv6 as soon as one peer is reached over it.
    #[must_use]
    pub fn overhead(&self) -> u32 {
        if self.peers.iter().any(|peer| peer.underlay.is_ipv6()) { OVERHEAD6 } else { OVERHEAD4 }
    }

    /// Smallest MTU that the pods' address families work with.
    #[must_use]
    pub fn least_mtu(&self) -> u32 {
        if self.node.gateway6.is_some() { MIN_MTU6 } else { MIN_MTU4 }
    }

    /// MTU of the pods and of the gateway device, given those of the uplinks.
    pub fn overlay_mtu(&self, uplink_mtus: &[u32]) -> Result<u32, MtuError> {
        let Some(uplink) = uplink_mtus.iter().copied().min() else {
            return self.overlay.mtu.ok_or(MtuError::NoUplink);
        };
        let overhead = self.overhead();
        let left = uplink.saturating_sub(overhead);
        let tunnelled = self.peers.iter().any(|peer| !peer.direct);
        match self.overlay.mtu {
            Some(configured) if tunnelled && configured > left => {
                Err(MtuError::DoesNotFit { configured, uplink, overhead, left })
            }
            Some(configured) => Ok(configured),
            None if left < self.least_mtu() => {
                let family = if self.node.gateway6.is_some() { "IPv6" } else { "IPv4" };
                Err(MtuError::UplinkTooSmall { uplink, overhead, left, least: self.least_mtu(), family })
            }
            None => Ok(left),
        }
    }

    /// Whether any peer is reached without encapsulation.
    #[must_use]
    pub fn has_direct_peer(&self) -> bool {
        self.peers.iter().any(|peer| peer.direct)
    }
}

impl Node {
    /// Every underlay address of the node.
    pub fn underlays(&self) -> impl Iterator<Item = IpAddr> {
        self.underlay4.map(IpAddr::V4).into_iter().chain(self.underlay6.map(IpAddr::V6))
    }

    /// Every gateway address of the node.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway4.map(IpAddr::V4).into_iter().chain(self.gateway6.map(IpAddr::V6))
    }
}

impl Pod {
    /// MAC of its own end of the veth pair.
    #[must_use]
    pub fn mac(&self) -> Mac {
        crate::mac::of_pod(&self.addresses)
    }
}
