//! From the desired state and the facts of the node to the entries of the maps.

use std::{collections::BTreeMap, net::IpAddr};

use common::maps::{Allowed, Endpoint, Route, Vtep, route_kind};
use ipnet::IpNet;

use super::Slots;
use crate::desired::{Desired, Node, Peer, Pod};

/// Key of a longest-prefix match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix<const N: usize> {
    /// How many bits of `data` count.
    pub len: u32,
    /// Network byte order; zero beyond `len`.
    pub data: [u8; N],
}

/// What a pod's entries need to know that the configuration doesn't say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Interface index of the host-side device.
    pub ifindex: u32,
}

/// What the node turned out to be.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The pods that are connected, by name. The others get no entries.
    pub pods: &'a BTreeMap<String, PodFacts>,
    /// Traffic counters of the pods.
    pub pod_slots: &'a Slots,
    /// Traffic counters of the peers.
    pub peer_slots: &'a Slots,
    /// Largest packet inside the tunnel.
    pub overlay_mtu: u32,
    /// Largest packet of the underlay.
    pub uplink_mtu: u32,
}

/// Entries of every map that the loader writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// See [`common::maps::name::PODS4`].
    pub pods4: BTreeMap<[u8; 4], Endpoint>,
    /// See [`common::maps::name::PODS6`].
    pub pods6: BTreeMap<[u8; 16], Endpoint>,
    /// See [`common::maps::name::ROUTES4`].
    pub routes4: BTreeMap<Prefix<4>, Route>,
    /// See [`common::maps::name::ROUTES6`].
    pub routes6: BTreeMap<Prefix<16>, Route>,
    /// See [`common::maps::name::SOURCES4`].
    pub sources4: BTreeMap<Prefix<8>, Allowed>,
    /// See [`common::maps::name::SOURCES6`].
    pub sources6: BTreeMap<Prefix<20>, Allowed>,
    /// See [`common::maps::name::VTEPS4`].
    pub vteps4: BTreeMap<[u8; 4], Vtep>,
    /// See [`common::maps::name::VTEPS6`].
    pub vteps6: BTreeMap<[u8; 16], Vtep>,
}

/// What the maps should hold.
#[must_use]
pub fn contents(desired: &Desired, facts: &Facts<'_>) -> Contents {
    let mut contents = Contents::default();
    // First, so that whatever else is of the same prefix wins.
    let excluded = desired.masquerade.exclude.iter().filter(|_| desired.masquerade.enabled);
    for cidr in excluded {
        contents.add_route(*cidr, own_route(route_kind::OUTSIDE, facts));
    }
    for cidr in &desired.node.service_cidrs {
        contents.add_route(*cidr, own_route(route_kind::SERVICE, facts));
    }
    for peer in &desired.peers {
        contents.add_peer(peer, &desired.node, facts);
    }
    for pod in &desired.pods {
        if let Some(known) = facts.pods.get(&pod.name) {
            contents.add_pod(pod, known.ifindex, facts.pod_slots.get(&pod.name));
        }
    }
    for cidr in &desired.node.pod_cidrs {
        contents.add_route(*cidr, own_route(route_kind::LOCAL, facts));
    }
    // Last, so that the node's own addresses win over a prefix that happens to be as long.
    let node_ports = desired.node.node_port_addresses.iter().copied();
    for address in desired.node.underlays().chain(node_ports).chain(desired.node.gateways()) {
        contents.add_route(address.into(), own_route(route_kind::HOST, facts));
    }
    contents
}

impl Contents {
    fn add_pod(&mut self, pod: &Pod, ifindex: u32, slot: u32) {
        let endpoint = Endpoint { ifindex, slot, mac: pod.mac(), reserved: [0; 2] };
        for address in &pod.addresses {
            match address {
                IpAddr::V4(address) => drop(self.pods4.insert(address.octets(), endpoint)),
                IpAddr::V6(address) => drop(self.pods6.insert(address.octets(), endpoint)),
            }
        }
        for prefix in &pod.allowed_sources {
            match prefix.trunc() {
                IpNet::V4(net) => {
                    let key = source(ifindex, net.prefix_len(), net.addr().octets());
                    self.sources4.insert(key, Allowed { slot });
                }
                IpNet::V6(net) => {
                    let key = source(ifindex, net.prefix_len(), net.addr().octets());
                    self.sources6.insert(key, Allowed { slot });
                }
            }
        }
    }

    fn add_peer(&mut self, peer: &Peer, node: &Node, facts: &Facts<'_>) {
        let slot = facts.peer_slots.get(&peer.name);
        let (pods, own, mtu) = if peer.direct {
            (route_kind::DIRECT, route_kind::DIRECT_NODE, facts.uplink_mtu)
        } else {
            (route_kind::OVERLAY, route_kind::OVERLAY_NODE, facts.overlay_mtu)
        };
        let route = |prefix: IpNet, kind| {
            let (underlay_family, underlay) = underlay(reached_at(peer, node, prefix));
            let mtu = path_mtu(mtu);
            Route {
                underlay,
                vtep_mac: peer.vtep_mac,
                kind,
                underlay_family,
                mtu,
                peer: slot,
                ..Route::default()
            }
        };
        for prefix in &peer.pod_cidrs {
            self.add_route(*prefix, route(*prefix, pods));
        }
        for address in peer.addresses.iter().map(|address| IpNet::from(*address)) {
            self.add_route(address, route(address, own));
        }
        for address in peer.addresses.iter().filter(|_| !peer.direct) {
            match address {
                IpAddr::V4(address) => drop(self.vteps4.insert(address.octets(), Vtep { peer: slot })),
                IpAddr::V6(address) => drop(self.vteps6.insert(address.octets(), Vtep { peer: slot })),
            }
        }
    }

    fn add_route(&mut self, prefix: IpNet, route: Route) {
        let route = Route { prefix_len: prefix.prefix_len(), ..route };
        let len = prefix.prefix_len().into();
        match prefix.trunc() {
            IpNet::V4(net) => drop(self.routes4.insert(Prefix { len, data: net.addr().octets() }, route)),
            IpNet::V6(net) => drop(self.routes6.insert(Prefix { len, data: net.addr().octets() }, route)),
        }
    }
}

/// By which of its addresses a peer is reached with packets to `prefix`. Plain ones take the one of their own family, if both nodes
/// have it: the kernel resolves no IPv4 neighbour for an IPv6 packet (`__bpf_redirect_neigh_v6` in net/core/filter.c).
fn reached_at(peer: &Peer, node: &Node, prefix: IpNet) -> IpAddr {
    let is_its = |address: &IpAddr| address.is_ipv4() == prefix.addr().is_ipv4();
    let shared = peer.addresses.iter().find(|address| is_its(address));
    let shared = shared.filter(|_| peer.direct && node.underlays().any(|own| is_its(&own)));
    shared.copied().unwrap_or(peer.underlay)
}

fn own_route(kind: u8, facts: &Facts<'_>) -> Route {
    Route { kind, mtu: path_mtu(facts.overlay_mtu), ..Route::default() }
}

/// A device's MTU as a path's: no packet's length says more, whatever the device takes.
fn path_mtu(device: u32) -> u16 {
    u16::try_from(device).unwrap_or(u16::MAX)
}

fn underlay(address: IpAddr) -> (u8, [u8; 16]) {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            (4, bytes)
        }
        IpAddr::V6(address) => (6, address.octets()),
    }
}

/// The device in network byte order, then the address: [`common::maps::Source`].
fn source<const A: usize, const N: usize>(ifindex: u32, prefix_len: u8, address: [u8; A]) -> Prefix<N> {
    const DEVICE: usize = size_of::<u32>();
    const { assert!(N == DEVICE + A) };
    let mut data = [0; N];
    data[..DEVICE].copy_from_slice(&ifindex.to_be_bytes());
    data[DEVICE..].copy_from_slice(&address);
    Prefix { len: u32::BITS + u32::from(prefix_len), data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Overlay;

    fn desired() -> Desired {
        Desired {
            node: Node {
                name: "a".into(),
                uplinks: vec!["eth0".into()],
                mac: [10, 0, 10, 240, 0, 20],
                gateway_device: "podlane0".into(),
                gateway4: Some([10, 200, 0, 1].into()),
                gateway6: Some("fd00:10:200::1".parse().unwrap()),
                underlay4: Some([10, 240, 0, 20].into()),
                underlay6: None,
                pod_cidrs: vec!["10.200.0.0/24".parse().unwrap(), "fd00:10:200::/64".parse().unwrap()],
                ..Node::default()
            },
            overlay: Overlay { vni: 1, port: 8472, mtu: None },
            peers: vec![Peer {
                name: "b".into(),
                addresses: vec!["10.240.0.21".parse().unwrap(), "fd00::21".parse().unwrap()],
                underlay: "10.240.0.21".parse().unwrap(),
                vtep_mac: [2; 6],
                pod_cidrs: vec!["10.200.1.0/24".parse().unwrap(), "fd00:10:200:1::/64".parse().unwrap()],
                direct: false,
            }],
            pods: vec![Pod {
                name: "default/web".into(),
                netns: "/run/netns/web".into(),
                interface: "eth0".into(),
                addresses: vec!["10.200.0.4".parse().unwrap(), "fd00:10:200::4".parse().unwrap()],
                allowed_sources: vec!["192.0.2.9/24".parse().unwrap()],
            }],
            ..Desired::default()
        }
    }

    fn slots(names: &[&str]) -> Slots {
        let mut slots = Slots::default();
        slots.assign(names.iter().copied(), 16).unwrap();
        slots
    }

    fn of(desired: &Desired, pods: &BTreeMap<String, PodFacts>) -> Contents {
        let facts = Facts {
            pods,
            pod_slots: &slots(&["default/web"]),
            peer_slots: &slots(&["aaa", "b"]),
            overlay_mtu: 1450,
            uplink_mtu: 1500,
        };
        contents(desired, &facts)
    }

    fn connected() -> BTreeMap<String, PodFacts> {
        BTreeMap::from([("default/web".to_owned(), PodFacts { ifindex: 7 })])
    }

    #[test]
    fn a_connected_pod_is_found_by_each_address_and_may_send_from_its_prefixes() {
        let contents = of(&desired(), &connected());
        let endpoint = Endpoint { ifindex: 7, slot: 0, mac: [0x0a, 0x58, 10, 200, 0, 4], reserved: [0; 2] };
        assert_eq!(contents.pods4, BTreeMap::from([([10, 200, 0, 4], endpoint)]));
        assert_eq!(contents.pods6.values().collect::<Vec<_>>(), [&endpoint]);
        let key = Prefix { len: 32 + 24, data: [0, 0, 0, 7, 192, 0, 2, 0] };
        assert_eq!(contents.sources4, BTreeMap::from([(key, Allowed { slot: 0 })]));
    }

    #[test]
    fn a_pod_that_is_not_connected_has_no_entries() {
        let contents = of(&desired(), &BTreeMap::new());
        assert!(contents.pods4.is_empty() && contents.pods6.is_empty() && contents.sources4.is_empty());
    }

    #[test]
    fn the_node_itself_is_host_and_its_pod_cidr_local() {
        let contents = of(&desired(), &connected());
        let kind = |len, data| contents.routes4[&Prefix { len, data }].kind;
        assert_eq!(kind(32, [10, 240, 0, 20]), route_kind::HOST);
        assert_eq!(kind(32, [10, 200, 0, 1]), route_kind::HOST);
        assert_eq!(kind(24, [10, 200, 0, 0]), route_kind::LOCAL);
    }

    #[test]
    fn an_overlay_peer_is_routed_and_may_send_vxlan() {
        let contents = of(&desired(), &connected());
        let route = contents.routes4[&Prefix { len: 24, data: [10, 200, 1, 0] }];
        let mut underlay = [0; 16];
        underlay[..4].copy_from_slice(&[10, 240, 0, 21]);
        let expected = Route {
            underlay,
            vtep_mac: [2; 6],
            kind: route_kind::OVERLAY,
            underlay_family: 4,
            mtu: 1450,
            prefix_len: 24,
            reserved: 0,
            peer: 1,
        };
        assert_eq!(route, expected);
        let own = Route { kind: route_kind::OVERLAY_NODE, ..expected };
        assert_eq!(
            contents.routes4[&Prefix { len: 32, data: [10, 240, 0, 21] }],
            Route { prefix_len: 32, ..own }
        );
        for of_peer in [Route { prefix_len: 64, ..expected }, Route { prefix_len: 128, ..own }] {
            assert_eq!(contents.routes6.values().filter(|route| **route == of_peer).count(), 1);
        }
        assert_eq!(contents.vteps4, BTreeMap::from([([10, 240, 0, 21], Vtep { peer: 1 })]));
        assert_eq!(contents.vteps6.len(), 1);
    }

    #[test]
    fn a_direct_peer_takes_whole_underlay_packets_and_may_not_send_vxlan() {
        let mut desired = desired();
        desired.peers[0].direct = true;
        let contents = of(&desired, &connected());
        let route = contents.routes4[&Prefix { len: 24, data: [10, 200, 1, 0] }];
        assert_eq!((route.kind, route.mtu), (route_kind::DIRECT, 1500));
        let node = contents.routes4[&Prefix { len: 32, data: [10, 240, 0, 21] }];
        assert_eq!(node, Route { kind: route_kind::DIRECT_NODE, prefix_len: 32, ..route });
        assert!(contents.vteps4.is_empty() && contents.vteps6.is_empty());

        // IPv6 by IPv6, once both nodes have it.
        let by = |desired: &Desired| {
            let net = |(net, _): &(&Prefix<16>, &Route)| net.len == 64;
            let contents = of(desired, &connected());
            contents.routes6.iter().filter(net).map(|(_, route)| route.underlay_family).max()
        };
        let address: IpAddr = "fd00:10:240::15".parse().unwrap();
        desired.peers[0].pod_cidrs.push("fd00:10:200:1::/64".parse().unwrap());
        desired.peers[0].addresses.push(address);
        assert_eq!(by(&desired), Some(4));
        desired.node.underlay6 = Some("fd00:10:240::14".parse().unwrap());
        assert_eq!(by(&desired), Some(6));
        desired.peers[0].direct = false;
        assert_eq!(by(&desired), Some(4));
    }
}
