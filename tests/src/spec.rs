//! What a node is to its peers: name, underlay addresses, pod CIDRs and VTEP.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{self, Mac};

/// Which families the underlay has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both, IPv4 first.
    Dual,
}

impl Family {
    /// Whether addresses of the family of `net` belong to the underlay.
    #[must_use]
    pub const fn has(self, net: &IpNet) -> bool {
        match self {
            Self::V4 => matches!(net, IpNet::V4(_)),
            Self::V6 => matches!(net, IpNet::V6(_)),
            Self::Dual => true,
        }
    }
}

/// How one node reaches another's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// In VXLAN.
    Overlay,
    /// As plain routed packets.
    Direct,
}

/// The facts of a node that its peers are told.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Number in the address plan.
    pub number: u8,
    /// Name, unique on the machine: pins and runtime state lie under it.
    pub name: String,
    /// Underlay addresses, each with its subnet.
    pub underlay: Vec<IpNet>,
    /// Address of the router in each underlay subnet, if there is one.
    pub routers: Vec<IpAddr>,
    /// Pod CIDRs, IPv4 first.
    pub pod_cidrs: Vec<IpNet>,
    /// MAC of the VTEP.
    pub vtep_mac: Mac,
}

impl Spec {
    /// Node `number` of the address plan: in the shared underlay subnet, or with `routed` in one of its own.
    #[must_use]
    pub fn new(prefix: &str, number: u8, family: Family, routed: bool) -> Self {
        let subnet = if routed { number } else { 0 };
        let subnets = [address::underlay4(subnet), address::underlay6(subnet)].into_iter();
        let subnets: Vec<IpNet> = subnets.filter(|subnet| family.has(subnet)).collect();
        let own = |subnet: &IpNet| address::with_prefix(address::host(*subnet, 20 + number), *subnet);
        Self {
            number,
            name: format!("{prefix}worker-{number}"),
            underlay: subnets.iter().map(own).collect(),
            routers: if routed {
                subnets.iter().map(|subnet| address::host(*subnet, 1)).collect()
            } else {
                Vec::new()
            },
            pod_cidrs: vec![address::pod_cidr4(number), address::pod_cidr6(number)],
            vtep_mac: address::vtep_mac(number),
        }
    }

    /// Underlay addresses without their subnets.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.underlay.iter().map(IpNet::addr).collect()
    }

    /// The first underlay address: where peers send.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.underlay.first().map_or(IpAddr::from([0, 0, 0, 0]), IpNet::addr)
    }

    /// The underlay address of the family of `like`.
    #[must_use]
    pub fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses().into_iter().find(|address| address.is_ipv4() == like.is_ipv4())
    }

    /// Address of pod `number` in each pod CIDR.
    #[must_use]
    pub fn pod_addresses(&self, number: u8) -> Vec<IpNet> {
        self.pod_cidrs
            .iter()
            .map(|cidr| address::with_prefix(address::host(*cidr, 10 + number), *cidr))
            .collect()
    }

    /// The pods' gateway of the family of `like`.
    #[must_use]
    pub fn gateway(&self, like: IpAddr) -> Option<IpAddr> {
        let cidr = self.pod_cidrs.iter().find(|cidr| cidr.addr().is_ipv4() == like.is_ipv4())?;
        Some(address::gateway(*cidr))
    }
}
