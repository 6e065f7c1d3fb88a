//! A node without Podlane, as flannel makes it: the kernel's VXLAN device with static ARP and FDB entries and onlink
//! routes, and a bridge with the pods on veths.

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use crate::{
    address::{self, show_mac},
    netns::Netns,
    pod::{DEVICE, Pod},
    spec::{Route, Spec},
    wire,
};

/// Name of the VXLAN device.
pub const VXLAN: &str = "flannel.1";
/// Name of the bridge.
pub const BRIDGE: &str = "cni0";

/// How the kernel's VXLAN device is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Network identifier.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Whether it fills the outer UDP checksum in over IPv4; the kernel's default is yes.
    pub outer_checksum: bool,
    /// MTU of the uplink; the overlay's is 50 or, over IPv6, 70 less.
    pub mtu: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { vni: 1, port: 8472, outer_checksum: true, mtu: 1500 }
    }
}

/// A node whose dataplane is the kernel's.
#[derive(Debug)]
pub struct KernelVtepNode {
    /// What its peers know of it.
    pub spec: Spec,
    /// Its namespace; the uplink `eth0` is in it already.
    pub netns: Netns,
    /// Its pods.
    pub pods: Vec<Pod>,
    mtu: u32,
}

impl KernelVtepNode {
    /// Sets the node up in a namespace whose uplink has its addresses.
    pub fn new(spec: Spec, netns: Netns, options: Options) -> Result<Self> {
        let local = spec.address();
        let mtu = options.mtu - if local.is_ipv6() { 70 } else { 50 };
        let checksum = match (local.is_ipv6(), options.outer_checksum) {
            (true, true) => "udp6zerocsumrx",
            // Podlane sends without an outer checksum over IPv6 too (RFC 6935), which a kernel VTEP has to be told.
            (true, false) => "udp6zerocsumtx udp6zerocsumrx",
            (false, true) => "udpcsum",
            (false, false) => "noudpcsum",
        };
        netns.sysctl("net.ipv4.ip_forward", "1")?;
        netns.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        netns.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
        let Options { vni, port, .. } = options;
        netns.ip(&format!(
            "link add {VXLAN} address {} mtu {mtu} type vxlan id {vni} dstport {port} local {local} dev eth0 nolearning {checksum}",
            show_mac(spec.vtep_mac)
        ))?;
        netns.ip(&format!("link set {VXLAN} up"))?;
        netns.ip(&format!("link add {BRIDGE} mtu {mtu} type bridge mcast_snooping 0"))?;
        netns.ip(&format!("link set {BRIDGE} up"))?;
        for cidr in &spec.pod_cidrs {
            // flannel gives its device the subnet's own address, and the bridge the first.
            let length = if cidr.addr().is_ipv6() { 128 } else { 32 };
            wire::add_address(&netns, VXLAN, IpNet::new(cidr.network(), length)?)?;
            wire::add_address(&netns, BRIDGE, address::with_prefix(address::gateway(*cidr), *cidr))?;
        }
        Ok(Self { spec, netns, pods: Vec::new(), mtu })
    }

    /// Writes what flannel writes when a node joins: the route, the neighbour and the forwarding entry.
    pub fn add_peer(&self, peer: &Spec, route: Route) -> Result<()> {
        for cidr in &peer.pod_cidrs {
            let family = if cidr.addr().is_ipv6() { "-6 " } else { "" };
            match route {
                Route::Overlay => {
                    let next_hop = cidr.network();
                    let mac = show_mac(peer.vtep_mac);
                    self.netns
                        .ip(&format!("{family}route replace {cidr} via {next_hop} dev {VXLAN} onlink"))?;
                    self.netns
                        .ip(&format!("neigh replace {next_hop} lladdr {mac} dev {VXLAN} nud permanent"))?;
                }
                Route::Direct => {
                    let Some(next_hop) = peer.address_like(cidr.addr()) else { continue };
                    self.netns.ip(&format!("{family}route replace {cidr} via {next_hop} dev eth0"))?;
                }
            }
        }
        if route == Route::Overlay {
            let (mac, own) = (show_mac(peer.vtep_mac), self.spec.address());
            let underlay = peer
                .address_like(own)
                .with_context(|| format!("{} has no underlay address of the family of {own}", peer.name))?;
            self.netns.run(&format!("bridge fdb replace {mac} dev {VXLAN} dst {underlay}"))?;
        }
        Ok(())
    }

    /// Connects a pod to the bridge.
    pub fn add_pod(&mut self, pod: Pod) -> Result<()> {
        let port = format!("veth{}", self.pods.len());
        wire::wire((&pod.netns, DEVICE), (&self.netns, &port), self.mtu)?;
        self.netns.ip(&format!("link set {port} master {BRIDGE}"))?;
        for address in &pod.addresses {
            wire::add_address(&pod.netns, DEVICE, *address)?;
            wire::add_route(&pod.netns, "default", address::gateway(*address))?;
        }
        self.pods.push(pod);
        Ok(())
    }
}
