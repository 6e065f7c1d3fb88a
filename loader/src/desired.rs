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

use crate::mac::{self, Mac};

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
    #[serde(serialize_with = "mac::serialize")]
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

/// Largest MTU: what VXLAN adds has to fit into an IP packet too.
pub const MAX_MTU: u32 = 65535 - OVERHEAD6;
/// Name of the gateway device unless configured.
pub const DEFAULT_GATEWAY: &str = "podlane0";
/// Name of a pod's device, in its namespace, unless configured.
pub const DEFAULT_INTERFACE: &str = "eth0";
/// VXLAN network identifier unless configured: flannel's.
pub const DEFAULT_VNI: u32 = 1;
/// VXLAN's UDP port unless configured: that of flannel, and of Linux.
pub const DEFAULT_PORT: u16 = 8472;

/// The gateway of the pods in a pod CIDR: its first address behind the network's own.
#[must_use]
pub fn gateway_of(cidr: &IpNet) -> IpAddr {
    match cidr {
        IpNet::V4(cidr) => Ipv4Addr::from_bits(cidr.network().to_bits().saturating_add(1)).into(),
        IpNet::V6(cidr) => Ipv6Addr::from_bits(cidr.network().to_bits().saturating_add(1)).into(),
    }
}

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
        if self.has_ipv6_pods() { MIN_MTU6 } else { MIN_MTU4 }
    }

    /// Whether any pods have IPv6 addresses, ours or a peer's: the kernel routes none through a device below
    /// [`MIN_MTU6`].
    #[must_use]
    pub fn has_ipv6_pods(&self) -> bool {
        let peers = self.peers.iter().flat_map(|peer| &peer.pod_cidrs);
        self.node.pod_cidrs.iter().chain(peers).any(|cidr| matches!(cidr, IpNet::V6(_)))
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
                let family = if self.has_ipv6_pods() { "IPv6" } else { "IPv4" };
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
        mac::of_pod(&self.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(mtu: Option<u32>, underlays: &[(&str, bool)], ipv6_cidr: Option<&str>) -> Desired {
        let peer = |(underlay, direct): &(&str, bool)| Peer {
            name: (*underlay).to_owned(),
            addresses: vec![underlay.parse().unwrap()],
            underlay: underlay.parse().unwrap(),
            vtep_mac: Mac::default(),
            pod_cidrs: Vec::new(),
            direct: *direct,
        };
        Desired {
            node: Node {
                name: "node".to_owned(),
                uplinks: vec!["eth0".to_owned()],
                mac: Mac::default(),
                gateway_device: DEFAULT_GATEWAY.to_owned(),
                gateway4: Some(Ipv4Addr::new(10, 200, 0, 1)),
                gateway6: None,
                underlay4: None,
                underlay6: None,
                pod_cidrs: ipv6_cidr.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            },
            overlay: Overlay { vni: DEFAULT_VNI, port: DEFAULT_PORT, mtu },
            peers: underlays.iter().map(peer).collect(),
            pods: Vec::new(),
            capacities: Capacities::default(),
        }
    }

    #[test]
    fn mtu_is_what_the_smallest_uplink_leaves() {
        let over4 = [("10.240.0.21", false)];
        let over6 = [("10.240.0.21", false), ("fd00::21", false)];
        assert_eq!(desired(None, &[], None).overlay_mtu(&[1500]), Ok(1450));
        assert_eq!(desired(None, &over4, None).overlay_mtu(&[9000, 1500]), Ok(1450));
        assert_eq!(desired(None, &over6, None).overlay_mtu(&[1500]), Ok(1430));
        assert_eq!(desired(None, &over6, Some("fd00:10:200::/64")).overlay_mtu(&[1350]), Ok(1280));
    }

    #[test]
    fn a_configured_mtu_has_to_fit_where_it_is_tunnelled() {
        let tunnelled = [("10.240.0.21", false)];
        assert_eq!(desired(Some(1400), &tunnelled, None).overlay_mtu(&[1500]), Ok(1400));
        assert_eq!(desired(Some(1500), &[("10.240.0.21", true)], None).overlay_mtu(&[1500]), Ok(1500));
        assert_eq!(desired(Some(1500), &[], None).overlay_mtu(&[]), Ok(1500));
        let error = desired(Some(1451), &tunnelled, None).overlay_mtu(&[1500]).unwrap_err();
        assert_eq!(error, MtuError::DoesNotFit { configured: 1451, uplink: 1500, overhead: 50, left: 1450 });
    }

    #[test]
    fn an_uplink_too_small_is_an_error() {
        assert_eq!(desired(None, &[], None).overlay_mtu(&[]), Err(MtuError::NoUplink));
        let error =
            desired(None, &[("fd00::21", false)], Some("fd00:10:200::/64")).overlay_mtu(&[1349]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("an uplink MTU of 1349 less 70 for VXLAN leaves 1279, and IPv6 pods"),
            "{error}"
        );
        assert_eq!(desired(None, &[], None).overlay_mtu(&[626]), Ok(576));
        assert!(desired(None, &[], None).overlay_mtu(&[625]).is_err());
        assert!(desired(None, &[], None).overlay_mtu(&[10]).is_err());
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        for (cidr, gateway) in [
            ("10.200.0.0/24", "10.200.0.1"),
            ("10.200.0.128/25", "10.200.0.129"),
            ("fd00:10:200::/64", "fd00:10:200::1"),
        ] {
            assert_eq!(gateway_of(&cidr.parse().unwrap()), gateway.parse::<IpAddr>().unwrap());
        }
    }
}
