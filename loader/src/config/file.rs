//! The file as it was written: every value that could be read, with its place.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;

use super::{
    diagnostic::{At, Errors, Place},
    reader::{List, Section},
    schema,
    value::{
        address, boolean, choice, integer, interface, mac, name, new_interface, node_name, own_pod_cidr,
        path, pod_cidr, port_range, prefix,
    },
};
use crate::{desired::MAX_MTU, mac::Mac};

/// The whole file.
pub(super) struct File {
    pub(super) node: Option<Node>,
    pub(super) overlay: Overlay,
    pub(super) maps: Maps,
    pub(super) peers: Vec<Peer>,
    pub(super) pods: Vec<Pod>,
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
}

/// `[overlay]`.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) direct: bool,
    pub(super) vni: Option<u32>,
    pub(super) port: Option<u32>,
    pub(super) mtu: Option<At<u32>>,
}

/// `[maps]`.
#[derive(Default)]
pub(super) struct Maps {
    pub(super) pods: Option<At<u32>>,
    pub(super) peers: Option<At<u32>>,
    pub(super) routes: Option<At<u32>>,
    pub(super) sources: Option<At<u32>>,
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
}

/// Most entries that a map may have: what a per-CPU map of many CPUs still takes without trouble.
const MAX_ENTRIES: u32 = 1 << 20;

impl File {
    /// Reads all of it; what can't be read is in `errors`.
    pub(super) fn read(errors: &Errors<'_>, root: &Section<'_>) -> Self {
        refuse_later_features(errors, root);
        Self {
            node: root.required_table(&schema::NODE).as_ref().map(Node::read),
            overlay: root.table(&schema::OVERLAY).as_ref().map(Overlay::read).unwrap_or_default(),
            maps: root.table(&schema::MAPS).as_ref().map(Maps::read).unwrap_or_default(),
            peers: root.tables(&schema::PEER).iter().map(Peer::read).collect(),
            pods: root.tables(&schema::POD).iter().map(Pod::read).collect(),
        }
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
        }
    }
}

impl Overlay {
    fn read(section: &Section<'_>) -> Self {
        let mode = choice(&[("vxlan", false), ("direct", true)]);
        Self {
            direct: section.optional("mode", mode).is_some_and(|mode| mode.value),
            vni: section.optional("vni", integer(0..=(1 << 24) - 1)).map(|vni| vni.value),
            port: section.optional("port", integer(1..=u32::from(u16::MAX))).map(|port| port.value),
            mtu: section.optional("mtu", integer(1..=MAX_MTU)),
        }
    }
}

impl Maps {
    fn read(section: &Section<'_>) -> Self {
        let entries = |key| section.optional(key, integer(1..=MAX_ENTRIES));
        Self {
            pods: entries("pods"),
            peers: entries("peers"),
            routes: entries("routes"),
            sources: entries("sources"),
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
        }
    }
}

/// What the file can say and this release doesn't do is an error, so that nobody relies on it.
fn refuse_later_features(errors: &Errors<'_>, root: &Section<'_>) {
    if let Some(section) = root.table(&schema::XDP) {
        // `auto` takes the best of what there is, and in this release that is TC alone.
        let mode = choice(&[("auto", true), ("off", true), ("native", false), ("generic", false)]);
        if let Some(At { place, .. }) = section.optional("mode", mode).filter(|supported| !supported.value) {
            errors.wrong(
                &place,
                "not supported by this release, which works at TC only; write \"auto\" or \"off\"",
            );
        }
    }
    if let Some(section) = root.table(&schema::MASQUERADE) {
        section.list("exclude", prefix);
        section.optional("ports", port_range);
        if let Some(At { place, .. }) = section.required("enabled", boolean).filter(|enabled| enabled.value) {
            errors.wrong(&place, "not supported by this release; write false and masquerade by other means");
        }
    }
    for (place, _) in root.elements(schema::SERVICE) {
        errors.wrong(&place, "services are not supported by this release; take this [[service]] out");
    }
}
