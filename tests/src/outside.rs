//! A host outside the cluster: neither node nor pod, behind the router of the underlay. It knows the nodes' addresses and no
//! pod's; service addresses reach it only where a test routes them.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use crate::{
    address,
    netns::Netns,
    spec::Spec,
    wire::{self, Router},
};

/// The host.
#[derive(Debug)]
pub struct Outside {
    /// Its namespace.
    pub netns: Netns,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

impl Outside {
    /// Plugs the `number`th host into the router: each in a subnet of its own.
    pub fn new(netns: Netns, router: &mut Router, number: u8) -> Result<Self> {
        wire::without_dad(&netns)?;
        let subnets = [address::outside4(number), address::outside6(number)];
        let gateways = subnets.map(|subnet| address::host(subnet, 1));
        let at_router: Vec<IpNet> =
            subnets.iter().zip(gateways).map(|(net, gateway)| address::with_prefix(gateway, *net)).collect();
        router.plug(&netns, "eth0", &at_router)?;
        let addresses: Vec<IpAddr> = subnets.iter().map(|subnet| address::host(*subnet, 10)).collect();
        for (own, subnet) in addresses.iter().zip(subnets) {
            wire::add_address(&netns, "eth0", address::with_prefix(*own, subnet))?;
        }
        for gateway in gateways {
            wire::add_route(&netns, "default", gateway)?;
        }
        wire::settle(&netns)?;
        wire::settle(router.netns())?;
        Ok(Self { netns, addresses })
    }

    /// Its address of the family of `like`.
    pub fn address_like(&self, like: IpAddr) -> Result<IpAddr> {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
        found.copied().context("no address of the family")
    }
}

/// Makes the router send an address or prefix to a node, as the network in front of a cluster does.
pub fn lead(router: &Router, destination: IpNet, node: &Spec) -> Result<()> {
    let via = node.address_like(destination.addr()).context("the node has no address of the family")?;
    let family = if via.is_ipv6() { "-6 " } else { "" };
    router.netns().ip(&format!("{family}route replace {destination} via {via}"))?;
    Ok(())
}
