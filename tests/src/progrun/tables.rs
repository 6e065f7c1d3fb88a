//! What the node knows, once, for the kernel's maps and for the model.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use common::{
    maps::{Allowed, Endpoint, Hop, Route, Vtep, capacity, flow_sets, route_kind},
    memory::ServiceTables,
    node::Node,
};
use ipnet::IpNet;

use super::{
    devices::Devices,
    plan::{Family, NODE_MAC, PEERS, PORT, Peer, Pod, VNI, excluded, underlay},
    program::ENTRIES,
    services::{self, Exposure},
};

/// Prefix that the first pod may send from besides its own addresses, per family.
const ALLOWED: [&str; 2] = ["192.0.2.0/24", "2001:db8:5::/48"];

/// What a node has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Flows that a CPU remembers, of each family.
    pub flows: u32,
    /// Entries of connections, of each family: two a connection.
    pub connections: u32,
}

impl Default for Room {
    /// For what a test makes, at most.
    fn default() -> Self {
        Self { flows: ENTRIES, connections: ENTRIES }
    }
}

/// Entries of every table, keyed by address or prefix.
pub struct Tables {
    /// What there is room for.
    pub room: Room,
    /// The node's facts.
    pub node: &'static Node,
    /// Services.
    pub services: ServiceTables,
    /// Local pods.
    pub pods: Vec<(IpAddr, Endpoint)>,
    /// Routes.
    pub routes: Vec<(IpNet, &'static Route)>,
    /// Peers that send VXLAN.
    pub vteps: Vec<(IpAddr, Vtep)>,
    /// Device, prefix, and whose it is.
    pub sources: Vec<(u32, IpNet, Allowed)>,
}

impl Tables {
    /// What the loader would fill in for the plan.
    pub fn new(devices: &Devices, features: u32, room: Room, exposures: &[Exposure]) -> Result<Self> {
        let node = Node { flow_sets: flow_sets(room.flows), ..node(devices.gateway, features) };
        let node: &'static Node = Box::leak(Box::new(node));
        let mut tables = Self {
            room,
            services: services::tables(node, exposures),
            node,
            pods: Vec::new(),
            routes: Vec::new(),
            vteps: Vec::new(),
            sources: Vec::new(),
        };
        for family in Family::BOTH {
            for pod in devices.pods {
                let Pod { ifindex, slot, mac, .. } = pod;
                tables.pods.push((pod.address(family), Endpoint { ifindex, slot, mac, reserved: [0; 2] }));
            }
            for own in [family.gateway(), underlay(family, 20)] {
                tables.route(IpNet::from(own), own_route(route_kind::HOST));
            }
            tables.route(cidr(family, 0)?, own_route(route_kind::LOCAL));
            tables.route(IpNet::from(excluded(family)), own_route(route_kind::OUTSIDE));
            for peer in PEERS {
                tables.route(cidr(family, peer.number)?, peer_route(&peer));
            }
        }
        for peer in PEERS {
            let kind = match peer.kind {
                route_kind::DIRECT => route_kind::DIRECT_NODE,
                _ => route_kind::OVERLAY_NODE,
            };
            tables.route(IpNet::from(peer.address()), Route { kind, ..peer_route(&peer) });
            if peer.kind == route_kind::OVERLAY {
                tables.vteps.push((peer.address(), Vtep { peer: peer.slot() }));
            }
        }
        let [first, _] = devices.pods;
        for prefix in ALLOWED {
            tables.sources.push((first.ifindex, prefix.parse()?, Allowed { slot: first.slot }));
        }
        Ok(tables)
    }

    fn route(&mut self, prefix: IpNet, route: Route) {
        let route = Route { prefix_len: prefix.prefix_len(), ..route };
        self.routes.push((prefix, Box::leak(Box::new(route))));
    }
}

/// The node of the plan with those features, wherever its gateway device may be.
#[must_use]
pub fn any_node(features: u32) -> Node {
    node(1, features)
}

fn node(gateway_ifindex: u32, features: u32) -> Node {
    let [_, vni @ ..] = VNI.to_be_bytes();
    Node {
        gateway_ifindex,
        features,
        mac: NODE_MAC,
        port: PORT.to_be_bytes(),
        vni,
        reserved: 0,
        gateway4: v4(Family::V4.gateway()).octets(),
        gateway6: padded(Family::V6.gateway()),
        underlay4: v4(underlay(Family::V4, 20)).octets(),
        underlay6: padded(underlay(Family::V6, 20)),
        loopback4: v4(Family::V4.pod(0, 0)).octets(),
        loopback6: padded(Family::V6.pod(0, 0)),
        ports_first: 61000,
        ports_last: 65535,
        answers_first: 61000,
        answers_last: 65535,
        frame: 1514,
        flow_sets: flow_sets(capacity::FLOWS),
    }
}

fn cidr(family: Family, number: u8) -> Result<IpNet> {
    Ok(IpNet::new(family.pod(number, 0), if family == Family::V4 { 24 } else { 64 })?)
}

/// A way to that address, a peer's own or any other from the node's own, that is taken as it is for as long as a test takes: by that device,
/// from `08:...:08` to `06:...:06`.
#[must_use]
pub fn way_to(address: IpAddr, ifindex: u32) -> Hop {
    let of = PEERS.iter().find(|peer| peer.address() == address);
    let outside = Route { underlay: padded(address), peer: Hop::NOBODY, ..Route::default() };
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let source = padded(underlay(family, 20));
    let route = of.map_or(outside, peer_route);
    Hop { route, source, until: u64::MAX, ifindex, dst: [6; 6], src: [8; 6] }
}

fn own_route(kind: u8) -> Route {
    Route { kind, ..Route::default() }
}

fn peer_route(peer: &Peer) -> Route {
    Route {
        underlay: padded(peer.address()),
        vtep_mac: peer.vtep_mac(),
        kind: peer.kind,
        underlay_family: if peer.underlay == Family::V4 { 4 } else { 6 },
        mtu: u16::try_from(peer.mtu()).unwrap_or(u16::MAX),
        peer: peer.slot(),
        ..Route::default()
    }
}

const fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// An address's bytes, padded with zeros.
#[must_use]
pub fn padded(address: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    bytes
}

/// An address's bytes.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
