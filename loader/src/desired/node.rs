//! This node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

use crate::mac::{self, Mac};

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Stands for a client whose answers would not come this way otherwise: the network address of the first IPv4 pod
    /// CIDR, which no pod has.
    pub loopback4: Option<Ipv4Addr>,
    /// As `loopback4`, for IPv6.
    pub loopback6: Option<Ipv6Addr>,
    /// Where services have their addresses, as in the configuration; they may have others as well.
    pub service_cidrs: Vec<IpNet>,
    /// The node's addresses at which node ports are called.
    pub node_port_addresses: Vec<IpAddr>,
}

/// The gateway of the pods in a pod CIDR: its first address behind the network's own.
#[must_use]
pub fn gateway_of(cidr: &IpNet) -> IpAddr {
    match cidr {
        IpNet::V4(cidr) => Ipv4Addr::from_bits(cidr.network().to_bits().saturating_add(1)).into(),
        IpNet::V6(cidr) => Ipv6Addr::from_bits(cidr.network().to_bits().saturating_add(1)).into(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
