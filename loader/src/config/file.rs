//! The file as it was written: every value that could be read, with its place.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;

use super::{
    diagnostic::{At, Place},
    reader::{List, Section},
    schema,
    services::{HostPort, Service},
    value::{
        address, boolean, choice, directory, integer, interface, mac, name, new_interface, node_name,
        own_pod_cidr, path, pod_cidr, port_range, prefix, service_cidr,
    },
};
use crate::{
    desired::{DEFAULT_PORTS, MAX_MTU, SocketMode, Sockets, TcMode, Timeouts, XdpMode, placement::Cluster},
    mac::Mac,
};

/// The whole file.
pub(super) struct File {
    pub(super) node: Option<Node>,
    pub(super) overlay: Overlay,
    pub(super) masquerade: Masquerade,
    pub(super) echo: Option<bool>,
    pub(super) timeouts: Timeouts,
    pub(super) maps: Maps,
    pub(super) tc: TcMode,
    pub(super) xdp: XdpMode,
    pub(super) sockets: Sockets,
    pub(super) peers: Vec<Peer>,
    pub(super) pods: Vec<Pod>,
    pub(super) services: Vec<Service>,
}

/// `[node]`.
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) name: Option<At<String>>,
    pub(super) addresses: List<IpAddr>,
    pub(super) uplinks: List<String>,
    pub(super) pod_cidrs: List<IpNet>,
    pub(super) vtep_mac: Option<At<Mac>>,
    pub(super) gateway: Option<At<String>>,
    pub(super) service_cidrs: List<IpNet>,
    /// As given; see [`Node::node_port_addresses`].
    for_ports: List<IpAddr>,
}

/// `[overlay]`.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) direct: bool,
    pub(super) vni: Option<u32>,
    pub(super) port: Option<At<u32>>,
    pub(super) mtu: Option<At<u32>>,
}

/// `[masquerade]`.
pub(super) struct Masquerade {
    pub(super) enabled: Option<At<bool>>,
    pub(super) exclude: List<IpNet>,
    pub(super) ports: Option<At<RangeInclusive<u16>>>,
}

/// `[maps]`.
#[derive(Default)]
pub(super) struct Maps {
    pub(super) pods: Option<At<u32>>,
    pub(super) peers: Option<At<u32>>,
    pub(super) routes: Option<At<u32>>,
    pub(super) sources: Option<At<u32>>,
    pub(super) services: Option<At<u32>>,
    pub(super) frontends: Option<At<u32>>,
    pub(super) backends: Option<At<u32>>,
    pub(super) maglev: Option<At<u32>>,
    pub(super) source_ranges: Option<At<u32>>,
    pub(super) conntrack: Option<At<u32>>,
    pub(super) affinity: Option<At<u32>>,
    pub(super) fragments: Option<At<u32>>,
    pub(super) sockets: Option<At<u32>>,
    pub(super) flows: Option<At<u32>>,
}

/// `[[peer]]`.
pub(super) struct Peer {
    pub(super) place: Place,
    pub(super) name: Option<At<String>>,
    pub(super) addresses: List<IpAddr>,
    pub(super) vtep_mac: Option<At<Mac>>,
    pub(super) pod_cidrs: List<IpNet>,
    pub(super) direct: Option<bool>,
}

/// `[[pod]]`.
pub(super) struct Pod {
    pub(super) place: Place,
    pub(super) name: Option<At<String>>,
    pub(super) netns: Option<At<PathBuf>>,
    pub(super) interface: Option<At<String>>,
    pub(super) addresses: List<IpAddr>,
    pub(super) allowed_sources: List<IpNet>,
    pub(super) host_ports: Vec<HostPort>,
}

/// Most entries that a map may have: what a per-CPU map of many CPUs still takes without trouble.
const MAX_ENTRIES: u32 = 1 << 20;
/// Most entries of a map that all CPUs share: what a machine has memory for.
const MAX_SHARED_ENTRIES: u32 = 1 << 26;
/// Longest time for which a silent connection is remembered: thirty days.
const MAX_TIMEOUT: u32 = 30 * 86400;

impl File {
    /// Reads all of it; what can't be read is in `errors`.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let services = root.table(&schema::SERVICES);
        let timeouts = root.table(&schema::CONNTRACK).and_then(|conntrack| conntrack.table(&schema::TIMEOUT));
        Self {
            node: root.required_table(&schema::NODE).as_ref().map(Node::read),
            overlay: root.table(&schema::OVERLAY).as_ref().map(Overlay::read).unwrap_or_default(),
            masquerade: root.table(&schema::MASQUERADE).as_ref().map(Masquerade::read).unwrap_or_default(),
            echo: services.and_then(|table| table.optional("echo", boolean)).map(|echo| echo.value),
            timeouts: timeouts.as_ref().map(read_timeouts).unwrap_or_default(),
            maps: root.table(&schema::MAPS).as_ref().map(Maps::read).unwrap_or_default(),
            tc: root.table(&schema::TC).as_ref().map(read_tc).unwrap_or_default(),
            xdp: root.table(&schema::XDP).as_ref().map(read_xdp).unwrap_or_default(),
            sockets: root.table(&schema::SOCKETS).as_ref().map(read_sockets).unwrap_or_default(),
            peers: root.tables(&schema::PEER).iter().map(Peer::read).collect(),
            pods: root.tables(&schema::POD).iter().map(Pod::read).collect(),
            services: root.tables(&schema::SERVICE).iter().map(Service::read).collect(),
        }
    }

    /// Whose every address is.
    pub(super) fn cluster(&self) -> Cluster<'_> {
        let mut cluster = Cluster::default();
        let own = self.node.iter().map(|node| (&node.name, &node.addresses, &node.pod_cidrs, true));
        let peers = self.peers.iter().map(|peer| (&peer.name, &peer.addresses, &peer.pod_cidrs, false));
        for (name, addresses, cidrs, own) in own.chain(peers) {
            let name = name.as_ref().map(|name| name.value.as_str()).unwrap_or_default();
            cluster.add(name, own, addresses.values().copied(), cidrs.values().copied());
        }
        cluster
    }

    /// Names of the peers that are reached without a tunnel.
    pub(super) fn direct_peers(&self) -> impl Iterator<Item = &str> {
        let direct = self.peers.iter().filter(|peer| peer.direct.unwrap_or(self.overlay.direct));
        direct.filter_map(|peer| peer.name.as_ref()).map(|name| name.value.as_str())
    }

    /// The service CIDR that an address is in.
    pub(super) fn service_cidr_of(&self, address: IpAddr) -> Option<&At<IpNet>> {
        let cidrs = self.node.iter().flat_map(|node| &node.service_cidrs.items);
        cidrs.into_iter().find(|cidr| cidr.value.contains(&address))
    }
}

impl Node {
    fn read(section: &Section<'_>) -> Self {
        Self {
            place: section.place.clone(),
            name: section.required("name", node_name),
            addresses: section.required_list("address", address),
            uplinks: section.list("uplink", interface),
            pod_cidrs: section.required_list("pod-cidr", own_pod_cidr),
            vtep_mac: section.optional("vtep-mac", mac),
            gateway: section.optional("gateway", new_interface),
            service_cidrs: section.list("service-cidr", service_cidr),
            for_ports: section.filled_list("node-port-address", address),
        }
    }

    /// At which addresses node ports are called.
    pub(super) fn node_port_addresses(&self) -> Vec<IpAddr> {
        let given = if self.for_ports.items.is_empty() { &self.addresses } else { &self.for_ports };
        given.values().copied().collect()
    }

    /// Those of them that are given apart.
    pub(super) fn other_addresses(&self) -> &List<IpAddr> {
        &self.for_ports
    }
}

impl Masquerade {
    fn read(section: &Section<'_>) -> Self {
        Self {
            enabled: section.optional("enabled", boolean),
            exclude: section.list("exclude", prefix),
            ports: section.optional("ports", port_range),
        }
    }

    /// The ports to masquerade with.
    pub(super) fn ports(&self) -> RangeInclusive<u16> {
        self.ports.as_ref().map_or(DEFAULT_PORTS, |ports| ports.value.clone())
    }
}

impl Default for Masquerade {
    fn default() -> Self {
        let exclude = List { place: Place::default(), items: Vec::new(), complete: true };
        Self { enabled: None, exclude, ports: None }
    }
}

/// `[conntrack.timeout]`.
fn read_timeouts(section: &Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let seconds = |key, default| {
        section.optional(key, integer(1..=MAX_TIMEOUT)).map_or(default, |seconds| seconds.value)
    };
    Timeouts {
        tcp_syn: seconds("tcp-syn", default.tcp_syn),
        tcp_established: seconds("tcp-established", default.tcp_established),
        tcp_closing: seconds("tcp-closing", default.tcp_closing),
        udp: seconds("udp", default.udp),
        udp_stream: seconds("udp-stream", default.udp_stream),
        icmp: seconds("icmp", default.icmp),
        sctp: seconds("sctp", default.sctp),
        other: seconds("other", default.other),
    }
}

/// `[tc]`.
fn read_tc(section: &Section<'_>) -> TcMode {
    let words = TcMode::ALL.map(|mode| (mode.name(), mode));
    section.optional("mode", choice(&words)).map_or_else(TcMode::default, |mode| mode.value)
}

/// `[xdp]`.
fn read_xdp(section: &Section<'_>) -> XdpMode {
    let words = XdpMode::ALL.map(|mode| (mode.name(), mode));
    section.optional("mode", choice(&words)).map_or_else(XdpMode::default, |mode| mode.value)
}

/// `[sockets]`.
fn read_sockets(section: &Section<'_>) -> Sockets {
    let words = SocketMode::ALL.map(|mode| (mode.name(), mode));
    let default = Sockets::default();
    Sockets {
        mode: section.optional("mode", choice(&words)).map_or(default.mode, |mode| mode.value),
        cgroup: section.optional("cgroup", directory).map_or(default.cgroup, |cgroup| cgroup.value),
    }
}

impl Overlay {
    fn read(section: &Section<'_>) -> Self {
        let mode = choice(&[("vxlan", false), ("direct", true)]);
        Self {
            direct: section.optional("mode", mode).is_some_and(|mode| mode.value),
            vni: section.optional("vni", integer(0..=(1 << 24) - 1)).map(|vni| vni.value),
            port: section.optional("port", integer(1..=u32::from(u16::MAX))),
            mtu: section.optional("mtu", integer(1..=MAX_MTU)),
        }
    }
}

impl Maps {
    fn read(section: &Section<'_>) -> Self {
        let entries = |key| section.optional(key, integer(1..=MAX_ENTRIES));
        let shared = |key| section.optional(key, integer(1..=MAX_SHARED_ENTRIES));
        Self {
            pods: entries("pods"),
            peers: entries("peers"),
            routes: entries("routes"),
            sources: entries("sources"),
            services: shared("services"),
            frontends: shared("frontends"),
            backends: shared("backends"),
            maglev: shared("maglev"),
            source_ranges: shared("source-ranges"),
            conntrack: shared("conntrack"),
            affinity: shared("affinity"),
            fragments: shared("fragments"),
            sockets: shared("sockets"),
            flows: entries("flows"),
        }
    }
}

impl Peer {
    fn read(section: &Section<'_>) -> Self {
        let route = choice(&[("overlay", false), ("direct", true)]);
        Self {
            place: section.place.clone(),
            name: section.required("name", name),
            addresses: section.required_list("address", address),
            vtep_mac: section.optional("vtep-mac", mac),
            pod_cidrs: section.required_list("pod-cidr", pod_cidr),
            direct: section.optional("route", route).map(|direct| direct.value),
        }
    }
}

impl Pod {
    fn read(section: &Section<'_>) -> Self {
        Self {
            place: section.place.clone(),
            name: section.required("name", name),
            netns: section.required("netns", path),
            interface: section.optional("interface", new_interface),
            addresses: section.required_list("ip", address),
            allowed_sources: section.list("allowed-sources", prefix),
            host_ports: section.tables(&schema::HOST_PORT).iter().map(HostPort::read).collect(),
        }
    }
}
