//! Cables, switches and routers: what lies between nodes.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use crate::{config, foreign::Foreign, netns::Netns, wait};

/// Joins two namespaces by a veth pair and brings both ends up.
pub fn wire(left: (&Netns, &str), right: (&Netns, &str), mtu: u32) -> Result<()> {
    let ((left, left_device), (right, right_device)) = (left, right);
    left.ip(&format!(
        "link add {left_device} mtu {mtu} type veth peer name {right_device} mtu {mtu} netns {}",
        right.name()
    ))?;
    for (netns, device) in [(left, left_device), (right, right_device)] {
        if config::xdp_mode().is_some() {
            // To XDP, packets are to be as they come from a wire: checksums complete, none larger than a frame.
            set_offload(netns, device, "tx", false)?;
        }
        netns.ip(&format!("link set {device} up"))?;
    }
    Ok(())
}

/// An XDP program for a port, where nodes have one: a veth takes what XDP at its other end sends back only if it has one
/// itself.
fn counterpart(netns: &Netns, port: &str) -> Result<Option<Foreign>> {
    config::xdp_mode().map(|_| Foreign::attach_xdp(netns, port)).transpose()
}

/// Waits until the kernel answers neighbour solicitations for every IPv6 address of a namespace: it joins their groups
/// at leisure, once it has noticed that the device has a carrier.
pub fn settle(netns: &Netns) -> Result<()> {
    wait::until(&format!("IPv6 addresses of {} to be in use", netns.name()), || {
        let devices: Value = serde_json::from_str(&netns.ip("-6 -j addr show")?)?;
        let groups = netns.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/igmp6")?))?;
        for device in devices.as_array().into_iter().flatten() {
            let name = device["ifname"].as_str().unwrap_or_default();
            for info in device["addr_info"].as_array().into_iter().flatten() {
                let address: Ipv6Addr = info["local"].as_str().unwrap_or_default().parse()?;
                if name == "lo" || info["scope"] != "global" {
                    continue;
                }
                let [.., high, middle, low] = address.octets();
                let group = format!("ff0200000000000000000001ff{high:02x}{middle:02x}{low:02x}");
                let joined = groups.lines().any(|line| line.contains(&group) && line.contains(name));
                ensure!(joined && info["tentative"] != true, "{address} of {name} is not");
            }
        }
        Ok(Some(()))
    })
}

/// Turns duplicate address detection off for devices to come: until a device's link-local address has passed it, the
/// kernel resolves no neighbour for what it forwards.
pub fn without_dad(netns: &Netns) -> Result<()> {
    netns.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    netns.sysctl("net.ipv6.conf.all.accept_dad", "0")
}

/// Adds an address, usable at once.
pub fn add_address(netns: &Netns, device: &str, address: IpNet) -> Result<()> {
    let no_dad = if address.addr().is_ipv6() { " nodad" } else { "" };
    netns.ip(&format!("addr add {address} dev {device}{no_dad}"))?;
    Ok(())
}

/// Adds a route through a gateway.
pub fn add_route(netns: &Netns, destination: &str, gateway: IpAddr) -> Result<()> {
    let family = if gateway.is_ipv6() { "-6 " } else { "" };
    netns.ip(&format!("{family}route add {destination} via {gateway}"))?;
    Ok(())
}

/// Turns an offload of a device on or off, by the name that `ethtool -K` has for it.
pub fn set_offload(netns: &Netns, device: &str, offload: &str, on: bool) -> Result<()> {
    netns.run(&format!("ethtool -K {device} {offload} {}", if on { "on" } else { "off" }))?;
    Ok(())
}

/// Turns IPv6 off for devices to come, so that no neighbour discovery of theirs disturbs a count.
pub fn without_ipv6(netns: &Netns) -> Result<()> {
    netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    netns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
}

/// A layer-2 switch: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Switch {
    netns: Netns,
    ports: u32,
    mtu: u32,
    counterparts: Vec<Foreign>,
}

impl Switch {
    /// Makes a switch without ports.
    pub fn new(mtu: u32) -> Result<Self> {
        let netns = Netns::new("switch")?;
        without_ipv6(&netns)?;
        netns.ip(&format!("link add br0 mtu {mtu} type bridge mcast_snooping 0"))?;
        netns.ip("link set br0 up")?;
        Ok(Self { netns, ports: 0, mtu, counterparts: Vec::new() })
    }

    /// Plugs a new device of `netns` in; returns the name of the switch's port.
    pub fn plug(&mut self, netns: &Netns, device: &str) -> Result<String> {
        let port = format!("port{}", self.ports);
        self.ports += 1;
        wire((netns, device), (&self.netns, &port), self.mtu)?;
        self.counterparts.extend(counterpart(&self.netns, &port)?);
        self.netns.ip(&format!("link set {port} master br0"))?;
        Ok(port)
    }

    /// Where the ports are, for captures.
    #[must_use]
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// As [`netns`](Self::netns), to keep it.
    pub const fn netns_mut(&mut self) -> &mut Netns {
        &mut self.netns
    }
}

/// A router between underlay subnets.
#[derive(Debug)]
pub struct Router {
    netns: Netns,
    ports: u32,
    mtu: u32,
    counterparts: Vec<Foreign>,
}

impl Router {
    /// Makes a router without ports.
    pub fn new(netns: Netns, mtu: u32) -> Result<Self> {
        netns.sysctl("net.ipv4.ip_forward", "1")?;
        netns.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        without_dad(&netns)?;
        Ok(Self { netns, ports: 0, mtu, counterparts: Vec::new() })
    }

    /// Plugs a new device of `netns` in, with the router's addresses at its end; returns the name of the router's port.
    pub fn plug(&mut self, netns: &Netns, device: &str, addresses: &[IpNet]) -> Result<String> {
        let port = format!("port{}", self.ports);
        self.ports += 1;
        wire((netns, device), (&self.netns, &port), self.mtu)?;
        self.counterparts.extend(counterpart(&self.netns, &port)?);
        for address in addresses {
            add_address(&self.netns, &port, *address)?;
        }
        Ok(port)
    }

    /// Where the ports are, for captures and routes.
    #[must_use]
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// As [`netns`](Self::netns), to keep it.
    pub const fn netns_mut(&mut self) -> &mut Netns {
        &mut self.netns
    }
}
