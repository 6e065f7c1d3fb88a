//! A pod: a namespace, its addresses, its device `eth0`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use crate::netns::Netns;

/// Name of a pod's device, in its namespace.
pub const DEVICE: &str = "eth0";

/// A pod. Who connects it to its node depends on the node: the loader, or the testbed.
#[derive(Debug)]
pub struct Pod {
    /// Name, as `namespace/name`.
    pub name: String,
    /// Its network namespace.
    pub netns: Netns,
    /// Its addresses, each with the pod CIDR's length.
    pub addresses: Vec<IpNet>,
}

impl Pod {
    /// Makes the pod's namespace.
    pub fn new(name: &str, netns: Netns, addresses: Vec<IpNet>) -> Result<Self> {
        // Pods take no part in router discovery: their routes are set.
        netns.sysctl("net.ipv6.conf.default.accept_ra", "0")?;
        netns.sysctl("net.ipv6.conf.default.router_solicitations", "0")?;
        Ok(Self { name: name.to_owned(), netns, addresses })
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> Result<Ipv4Addr> {
        let found = self.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        found.with_context(|| format!("pod {} has no IPv4 address", self.name))
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Result<Ipv6Addr> {
        let found = self.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        });
        found.with_context(|| format!("pod {} has no IPv6 address", self.name))
    }

    /// All its addresses.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::addr).collect()
    }
}
