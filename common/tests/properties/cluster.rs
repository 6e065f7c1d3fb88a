//! Three nodes in memory: this one, a peer with a tunnel and a direct peer.

#[path = "serving.rs"]
pub mod serving;

use std::sync::LazyLock;

use common::{
    maps::{Allowed, Budget, Endpoint, Route, Vtep, capacity, flow_sets, route_kind},
    memory::Memory,
    node::{Node, feature},
    tables::{Neighbour, NextHop},
    wire::Mac,
};

/// Number of the peer that is reached directly.
const DIRECT: u8 = 2;

/// Which node, and what is special about the packet.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// Number of the node.
    pub node: u8,
    /// Whether the tunnel's underlay is IPv6.
    pub over_v6: bool,
    /// Whether it has a VLAN tag.
    pub vlan: bool,
    /// What helpers answer.
    pub refuses: Option<i32>,
    /// Payload bytes per segment.
    pub gso_size: u32,
    /// ICMP errors that may be sent.
    pub tokens: u64,
    /// Whether the node has services, and masquerades its pods.
    pub serving: bool,
}

impl Default for Here {
    fn default() -> Self {
        Self { node: 0, over_v6: false, vlan: false, refuses: None, gso_size: 0, tokens: 1, serving: false }
    }
}

/// MAC of a node.
pub const fn mac(node: u8) -> [u8; 6] {
    [0x0a, 0, 10, 240, 0, 20 + node]
}

/// Address of host `host` in the pod CIDR of a node.
pub fn pod(v6: bool, node: u8, host: u8) -> Vec<u8> {
    if v6 {
        vec![0xfd, 0, 0, 0x10, 2, 0, 0, node, 0, 0, 0, 0, 0, 0, 0, host]
    } else {
        vec![10, 200, node, host]
    }
}

/// Address of a node on the underlay.
pub fn underlay(v6: bool, node: u8) -> Vec<u8> {
    if v6 {
        vec![0xfd, 0, 0, 0x10, 2, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20 + node]
    } else {
        vec![10, 240, 0, 20 + node]
    }
}

/// An address filled up with zeros.
pub fn padded(address: &[u8]) -> [u8; 16] {
    std::array::from_fn(|at| address.get(at).copied().unwrap_or(0))
}

/// Node facts and routes, by number, underlay and whether it is serving: made once, for they are borrowed for ever.
static NODES: LazyLock<Vec<Facts>> = LazyLock::new(|| {
    let all = (0..12).map(|index| Facts::new(index / 4, index & 2 != 0, index & 1 != 0));
    all.collect()
});

struct Facts {
    node: Node,
    routes: Vec<(Vec<u8>, usize, Route)>,
}

impl Facts {
    fn new(number: u8, over_v6: bool, serving: bool) -> Self {
        let gateway = |v6| padded(&pod(v6, number, 1));
        let own = |v6| padded(&underlay(v6, number));
        let loopback = |v6| padded(&pod(v6, number, 0));
        let services =
            if serving { feature::SERVICES | feature::MASQUERADE | feature::SERVICE_ECHO } else { 0 };
        let node = Node {
            gateway_ifindex: 7,
            features: feature::DIRECT | services,
            mac: mac(number),
            port: 8472_u16.to_be_bytes(),
            vni: [0, 0, 1],
            reserved: 0,
            gateway4: *gateway(false).first_chunk().unwrap_or(&[0; 4]),
            gateway6: gateway(true),
            underlay4: *own(false).first_chunk().unwrap_or(&[0; 4]),
            underlay6: own(true),
            loopback4: *loopback(false).first_chunk().unwrap_or(&[0; 4]),
            loopback6: loopback(true),
            ports_first: 61000,
            ports_last: 65535,
            answers_first: 61000,
            answers_last: 65535,
            frame: 1514,
            flow_sets: flow_sets(capacity::FLOWS),
        };
        let mut routes = Vec::new();
        for v6 in [false, true] {
            let (bits, all) = if v6 { (64_u8, 128) } else { (24, 32) };
            for peer in (0..3).filter(|peer| *peer != number) {
                let route = route(peer, over_v6);
                routes.push((pod(v6, peer, 0), bits.into(), Route { prefix_len: bits, ..route }));
                let kind = match route.kind {
                    route_kind::DIRECT => route_kind::DIRECT_NODE,
                    _ => route_kind::OVERLAY_NODE,
                };
                routes.push((underlay(v6, peer), all, Route { kind, ..route }));
            }
            let kind = |kind| Route { kind, underlay_family: 0, underlay: [0; 16], ..route(number, v6) };
            routes.push((pod(v6, number, 0), bits.into(), kind(route_kind::LOCAL)));
            routes.push((pod(v6, number, 1), all, kind(route_kind::HOST)));
            routes.push((underlay(v6, number), all, kind(route_kind::HOST)));
        }
        Self { node, routes }
    }
}

/// The route to a peer.
fn route(peer: u8, over_v6: bool) -> Route {
    let kind = if peer == DIRECT { route_kind::DIRECT } else { route_kind::OVERLAY };
    Route {
        underlay: padded(&underlay(over_v6, peer)),
        vtep_mac: mac(peer),
        kind,
        underlay_family: if over_v6 { 6 } else { 4 },
        mtu: if over_v6 { 1430 } else { 1450 },
        peer: peer.into(),
        ..Route::default()
    }
}

/// A packet on a device of that node: 10 and 11 plus a hundred times the node's number are its pods', 5 its uplink's.
pub fn memory(here: &Here, ifindex: u32, bytes: &[u8]) -> Memory {
    let number = here.node;
    let facts = &NODES[4 * usize::from(number) + 2 * usize::from(here.over_v6) + usize::from(here.serving)];
    let mut memory = Memory::packet(bytes);
    memory.node = &facts.node;
    memory.ifindex = ifindex;
    memory.vlan = here.vlan;
    memory.gso_size = here.gso_size;
    memory.refuses = here.refuses;
    memory.budget = Budget { updated_ns: 0, tokens: here.tokens };
    let neighbour = Neighbour::known(Mac::load(&[2, 0, 0, 0, 0, 1]), Mac::load(&[2, 0, 0, 0, 0, 2]));
    memory.next_hop = Ok(NextHop { ifindex: 5, neighbour });
    memory.routes = facts.routes.iter().map(|(prefix, bits, route)| (prefix.clone(), *bits, route)).collect();
    for v6 in [false, true] {
        for host in [10, 11] {
            let ifindex = 100 * u32::from(number) + u32::from(host);
            let mac = [0x0a, 0x58, number, 0, 0, host];
            let endpoint = Endpoint { ifindex, slot: host.into(), mac, reserved: [0; 2] };
            memory.pods.insert(pod(v6, number, host), endpoint);
        }
        for peer in (0..DIRECT).filter(|peer| *peer != number) {
            memory.vteps.insert(underlay(v6, peer), Vtep { peer: peer.into() });
        }
    }
    memory.sources.push((10, vec![192, 0, 2, 0], 24, Allowed { slot: 10 }));
    if here.serving {
        memory.services = serving::TABLES.clone();
    }
    memory
}
