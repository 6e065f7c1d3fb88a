//! Who is where: the node's pods and peers, and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::maps::route_kind;

use crate::{address::Mac, frame};

/// MAC of the gateway device, and so of the VTEP.
pub const NODE_MAC: Mac = [0x0a, 0, 10, 240, 0, 20];
/// MAC of the uplink.
pub const UPLINK_MAC: Mac = [0x02, 0, 0, 0, 0, 20];
/// MTU of the gateway device, and of the path to a peer over IPv4.
pub const GATEWAY_MTU: u32 = 1450;
/// UDP port of VXLAN, flannel's.
pub const PORT: u16 = 8472;
/// VXLAN network identifier.
pub const VNI: u32 = 1;

/// An address family; cases are written once and run for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Length of the IP header without options or extensions.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Protocol number of its ICMP.
    #[must_use]
    pub const fn icmp(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }

    /// Where the header has its TTL or hop limit.
    #[must_use]
    pub const fn ttl_at(self) -> usize {
        match self {
            Self::V4 => 8,
            Self::V6 => 7,
        }
    }

    /// The address that the pods of node `node` have as host `host`.
    #[must_use]
    pub fn pod(self, node: u8, host: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 200, node, host).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x200, node.into(), 0, 0, 0, host.into()).into(),
        }
    }

    /// The pods' gateway.
    #[must_use]
    pub fn gateway(self) -> IpAddr {
        self.pod(0, 1)
    }
}

/// An underlay address on the node's own link; the node is host 20.
#[must_use]
pub fn underlay(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 240, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x240, 0, 0, 0, 0, host.into()).into(),
    }
}

/// An underlay address behind the router, which is host 1 of the link.
#[must_use]
pub fn far(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 241, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x241, 0, 0, 0, 0, host.into()).into(),
    }
}

/// An address that is nobody's in the cluster. By its hash, the way there has its place among the few that the programs have here.
#[must_use]
pub fn outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 160).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x458).into(),
    }
}

/// An address outside the cluster, by way of the router, whom the node is told not to masquerade for (a route of its own says so).
#[must_use]
pub fn excluded(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 7).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 7).into(),
    }
}

/// MAC of the neighbour with that host number on the node's link.
#[must_use]
pub const fn mac_of(host: u8) -> Mac {
    [0x02, 0, 0, 0, 1, host]
}

/// A pod of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Interface index of its host-side veth.
    pub ifindex: u32,
    /// Its slot in `pod_traffic`.
    pub slot: u32,
    /// MAC of its own end.
    pub mac: Mac,
    /// Host number in the node's pod CIDR.
    pub host: u8,
}

impl Pod {
    /// Its address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        family.pod(0, self.host)
    }

    /// The frame in which it sends a packet to its gateway.
    #[must_use]
    pub fn sends(&self, packet: &[u8]) -> Vec<u8> {
        frame::ethernet(self.mac, NODE_MAC, packet)
    }

    /// The frame in which it receives a packet.
    #[must_use]
    pub fn receives(&self, packet: &[u8]) -> Vec<u8> {
        frame::ethernet(NODE_MAC, self.mac, packet)
    }
}

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What sets it apart.
    pub name: &'static str,
    /// Number of its pod CIDRs.
    pub number: u8,
    /// Family of the underlay to it.
    pub underlay: Family,
    /// Whether a router is between.
    pub routed: bool,
    /// Its host number on the underlay.
    pub host: u8,
    /// Whether its MAC, or the router's, is known.
    pub known: bool,
    /// One of [`route_kind`].
    pub kind: u8,
}

impl Peer {
    /// Its underlay address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        if self.routed { far(self.underlay, self.host) } else { underlay(self.underlay, self.host) }
    }

    /// MAC of its VTEP.
    #[must_use]
    pub const fn vtep_mac(&self) -> Mac {
        [0xd2, 0xd8, 0xa1, 0x85, 0x9e, self.number]
    }

    /// Its slot in `peer_traffic`.
    #[must_use]
    pub fn slot(&self) -> u32 {
        u32::from(self.number) - 1
    }

    /// Largest packet for its pods.
    #[must_use]
    pub const fn mtu(&self) -> u32 {
        match (self.kind, self.underlay) {
            (route_kind::DIRECT, _) => 1500,
            (_, Family::V4) => GATEWAY_MTU,
            (_, Family::V6) => GATEWAY_MTU - 20,
        }
    }

    /// An address of one of its pods.
    #[must_use]
    pub fn pod(&self, family: Family) -> IpAddr {
        family.pod(self.number, 10)
    }

    /// MAC that a packet to it leaves the node with.
    #[must_use]
    pub const fn next_mac(&self) -> Mac {
        mac_of(if self.routed { 1 } else { self.host })
    }
}

/// The peer of that name.
///
/// # Errors
///
/// There is none.
pub fn peer(name: &str) -> anyhow::Result<Peer> {
    let found = PEERS.into_iter().find(|peer| peer.name == name);
    found.ok_or_else(|| anyhow::anyhow!("no peer `{name}` in the plan"))
}

const fn overlay(name: &'static str, number: u8, underlay: Family, routed: bool, known: bool) -> Peer {
    Peer { name, number, underlay, routed, host: 20 + number, known, kind: route_kind::OVERLAY }
}

/// Every kind of peer.
pub const PEERS: [Peer; 10] = [
    overlay("near", 1, Family::V4, false, true),
    overlay("routed", 2, Family::V4, true, true),
    overlay("near6", 3, Family::V6, false, true),
    overlay("routed6", 4, Family::V6, true, true),
    Peer { kind: route_kind::DIRECT, ..overlay("direct", 5, Family::V4, false, true) },
    Peer { kind: route_kind::DIRECT, ..overlay("direct6", 6, Family::V6, false, true) },
    overlay("silent", 7, Family::V4, false, false),
    overlay("silent6", 8, Family::V6, false, false),
    Peer { kind: route_kind::DIRECT, ..overlay("silent-direct", 9, Family::V4, false, false) },
    // No route leads to its host number behind the router: see `devices`.
    Peer { host: LOST, ..overlay("lost", 10, Family::V4, true, false) },
];

/// Host number behind the router to which no route leads.
pub const LOST: u8 = 200;
