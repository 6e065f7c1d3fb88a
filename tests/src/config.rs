//! The configuration file of a Podlane node, to be changed and written again by a test.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    address::show_mac,
    pod::{DEVICE, Pod},
    spec::{Route, Spec},
};

/// The whole file.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[overlay]`.
    pub overlay: Overlay,
    /// `[maps]`: capacities by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub maps: BTreeMap<String, u32>,
    /// `[[peer]]`.
    #[serde(rename = "peer", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// `[[pod]]`.
    #[serde(rename = "pod", skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodEntry>,
}

/// `[node]`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// Name of the node.
    pub name: String,
    /// Underlay addresses.
    pub address: Vec<IpAddr>,
    /// Names of the uplinks.
    pub uplink: Vec<String>,
    /// Pod CIDRs.
    pub pod_cidr: Vec<IpNet>,
    /// MAC of the VTEP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<String>,
}

/// `[overlay]`.
#[derive(Clone, Debug, Serialize)]
pub struct Overlay {
    /// `vxlan` or `direct`.
    pub mode: String,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// MTU of the overlay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// `[[peer]]`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peer {
    /// Name of the node.
    pub name: String,
    /// Underlay addresses.
    pub address: Vec<IpAddr>,
    /// MAC of the VTEP.
    pub vtep_mac: String,
    /// Pod CIDRs.
    pub pod_cidr: Vec<IpNet>,
    /// `overlay` or `direct`.
    pub route: String,
}

/// `[[pod]]`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodEntry {
    /// Name.
    pub name: String,
    /// File of its namespace.
    pub netns: PathBuf,
    /// Name of its device.
    pub interface: String,
    /// Addresses.
    pub ip: Vec<IpAddr>,
    /// Prefixes that it may send from besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_sources: Vec<IpNet>,
}

impl Config {
    /// A node without peers and pods.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        Self {
            node: Node {
                name: spec.name.clone(),
                address: spec.addresses(),
                uplink: vec!["eth0".to_owned()],
                pod_cidr: spec.pod_cidrs.clone(),
                vtep_mac: Some(show_mac(spec.vtep_mac)),
            },
            overlay: Overlay { mode: "vxlan".to_owned(), vni: 1, port: 8472, mtu: None },
            maps: BTreeMap::new(),
            peers: Vec::new(),
            pods: Vec::new(),
        }
    }
}

impl Peer {
    /// The entry for a node.
    #[must_use]
    pub fn new(spec: &Spec, route: Route) -> Self {
        let route = match route {
            Route::Overlay => "overlay",
            Route::Direct => "direct",
        };
        Self {
            name: spec.name.clone(),
            address: spec.addresses(),
            vtep_mac: show_mac(spec.vtep_mac),
            pod_cidr: spec.pod_cidrs.clone(),
            route: route.to_owned(),
        }
    }
}

impl PodEntry {
    /// The entry for a pod.
    #[must_use]
    pub fn new(pod: &Pod) -> Self {
        Self {
            name: pod.name.clone(),
            netns: pod.netns.path().to_owned(),
            interface: DEVICE.to_owned(),
            ip: pod.ips(),
            allowed_sources: Vec::new(),
        }
    }
}
