//! The testbed's address plan, which is that of the design's examples, and MAC addresses as text.
//!
//! Node `n` has the pod CIDRs `10.200.n.0/24` and `fd00:10:200:n::/64`. On one link the underlay is `10.240.0.0/24` and
//! `fd00:10:240::/64` with node `n` at 20 + n; through a router each node has an underlay subnet of its own, numbered n.
//! Services have `10.32.0.0/16` and `fd00:10:32::/112`, hosts outside `198.51.100.0/24` and `2001:db8:51::/64` and those that follow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A MAC address.
pub type Mac = [u8; 6];

/// Reads `aa:bb:cc:dd:ee:ff`.
pub fn parse_mac(text: &str) -> Result<Mac> {
    let mut mac = [0; 6];
    let mut digits = text.split(':');
    for byte in &mut mac {
        let digits = digits.next().with_context(|| format!("`{text}` is too short for a MAC address"))?;
        *byte = u8::from_str_radix(digits, 16).with_context(|| format!("`{text}` is no MAC address"))?;
    }
    ensure!(digits.next().is_none(), "`{text}` is too long for a MAC address");
    Ok(mac)
}

/// Writes `aa:bb:cc:dd:ee:ff`.
#[must_use]
pub fn show_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `10.200.<node>.0/24`.
#[must_use]
pub fn pod_cidr4(node: u8) -> IpNet {
    net4(Ipv4Addr::new(10, 200, node, 0), 24)
}

/// `fd00:10:200:<node>::/64`.
#[must_use]
pub fn pod_cidr6(node: u8) -> IpNet {
    net6(Ipv6Addr::new(0xfd00, 0x10, 0x200, node.into(), 0, 0, 0, 0), 64)
}

/// The pods' gateway: the first address of a pod CIDR.
#[must_use]
pub fn gateway(cidr: IpNet) -> IpAddr {
    host(cidr, 1)
}

/// The `number`th address of a prefix.
#[must_use]
pub fn host(cidr: IpNet, number: u8) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() + u32::from(number))),
        IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() + u128::from(number))),
    }
}

/// Underlay subnet of IPv4: 0 for the shared link, or a node's own.
#[must_use]
pub fn underlay4(subnet: u8) -> IpNet {
    net4(Ipv4Addr::new(10, 240, subnet, 0), 24)
}

/// Underlay subnet of IPv6: 0 for the shared link, or a node's own.
#[must_use]
pub fn underlay6(subnet: u8) -> IpNet {
    net6(Ipv6Addr::new(0xfd00, 0x10, 0x240, subnet.into(), 0, 0, 0, 0), 64)
}

/// Subnet of a host outside the cluster, IPv4.
#[must_use]
pub fn outside4(number: u8) -> IpNet {
    net4(Ipv4Addr::new(198, 51, 100 + number, 0), 24)
}

/// Subnet of a host outside the cluster, IPv6.
#[must_use]
pub fn outside6(number: u8) -> IpNet {
    net6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, number.into(), 0, 0, 0, 0), 64)
}

/// Where services have their own addresses.
#[must_use]
pub fn service_cidrs() -> [IpNet; 2] {
    [net4(Ipv4Addr::new(10, 32, 0, 0), 16), net6(Ipv6Addr::new(0xfd00, 0x10, 0x32, 0, 0, 0, 0, 0), 112)]
}

/// Addresses of the `number`th service of its own, IPv4 first.
#[must_use]
pub fn cluster_ips(number: u8) -> [IpAddr; 2] {
    service_cidrs().map(|cidr| host(cidr, number))
}

/// Addresses of the `number`th service in the world outside, IPv4 first.
#[must_use]
pub fn external_ips(number: u8) -> [IpAddr; 2] {
    [
        host(net4(Ipv4Addr::new(203, 0, 113, 0), 24), number),
        host(net6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0), 64), number),
    ]
}

/// The same address with the length of the prefix that it lies in, as `ip addr add` wants it.
#[must_use]
pub fn with_prefix(address: IpAddr, subnet: IpNet) -> IpNet {
    IpNet::new(address, subnet.prefix_len()).unwrap_or_else(|_| IpNet::from(address))
}

/// MAC of a node's VTEP, which peers are told.
#[must_use]
pub fn vtep_mac(node: u8) -> Mac {
    [0x0a, 0x77, 0x10, 0xf0, 0x00, node]
}

fn net4(network: Ipv4Addr, length: u8) -> IpNet {
    Ipv4Net::new(network, length).map_or_else(|_| IpNet::from(IpAddr::V4(network)), IpNet::V4)
}

fn net6(network: Ipv6Addr, length: u8) -> IpNet {
    Ipv6Net::new(network, length).map_or_else(|_| IpNet::from(IpAddr::V6(network)), IpNet::V6)
}
