//! The configuration file of a Podlane node, to be changed and written again by a test.

mod service;

use std::{borrow::Cow, collections::BTreeMap, env, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::Serialize;

pub use self::service::{
    Affinity, Algorithm, Backend, Forwarding, HostPort, Policy, Protocol, Service, ServicePort, State,
};
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
    /// `[masquerade]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Masquerade>,
    /// `[services]`: settings of all services.
    #[serde(rename = "services", skip_serializing_if = "Option::is_none")]
    pub all_services: Option<AllServices>,
    /// `[conntrack]`.
    #[serde(skip_serializing_if = "Conntrack::is_default")]
    pub conntrack: Conntrack,
    /// `[tc]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tc: Option<Tc>,
    /// `[xdp]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp: Option<Xdp>,
    /// `[sockets]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Sockets>,
    /// `[[peer]]`.
    #[serde(rename = "peer", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// `[[pod]]`.
    #[serde(rename = "pod", skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodEntry>,
    /// `[[service]]`.
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
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
    /// Where services have their addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_cidr: Vec<IpNet>,
    /// Local addresses that node ports are called at; `address` if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_port_address: Vec<IpAddr>,
}

/// `[masquerade]`.
#[derive(Clone, Debug, Serialize)]
pub struct Masquerade {
    /// Whether pods leave the cluster under the node's address.
    pub enabled: bool,
    /// Destinations that see the pod's own address all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<IpNet>,
    /// Ports to take, as `61000-65535`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

/// `[services]`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AllServices {
    /// Whether ICMP echo requests to service addresses are answered.
    pub echo: bool,
}

/// `[conntrack]`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Conntrack {
    /// `[conntrack.timeout]`: seconds by kind, such as `tcp-established`.
    pub timeout: BTreeMap<String, u32>,
}

/// `[tc]`.
#[derive(Clone, Debug, Serialize)]
pub struct Tc {
    /// `auto`, `tcx` or `clsact`.
    pub mode: Cow<'static, str>,
}

/// `[xdp]`.
#[derive(Clone, Debug, Serialize)]
pub struct Xdp {
    /// `auto`, `native`, `generic` or `off`.
    pub mode: Cow<'static, str>,
}

/// The variable with `[tc] mode` for every test that does not choose one itself.
const TC_MODE: &str = "PODLANE_TC";
/// The same with `[xdp] mode`.
const XDP_MODE: &str = "PODLANE_XDP";

/// The mode of XDP for every test that does not choose one itself, if there is one.
pub(crate) fn xdp_mode() -> Option<String> {
    env::var(XDP_MODE).ok()
}

/// `[sockets]`.
#[derive(Clone, Debug, Serialize)]
pub struct Sockets {
    /// `off`, `tcp` or `on`.
    pub mode: &'static str,
    /// The cgroup that the programs are attached to.
    pub cgroup: PathBuf,
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
    /// Ports of the node that lead to the pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_port: Vec<HostPort>,
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
                service_cidr: Vec::new(),
                node_port_address: Vec::new(),
            },
            overlay: Overlay { mode: "vxlan".to_owned(), vni: 1, port: 8472, mtu: None },
            maps: BTreeMap::new(),
            masquerade: None,
            all_services: None,
            conntrack: Conntrack::default(),
            tc: env::var(TC_MODE).ok().map(|mode| Tc { mode: mode.into() }),
            xdp: xdp_mode().map(|mode| Xdp { mode: mode.into() }),
            sockets: None,
            peers: Vec::new(),
            pods: Vec::new(),
            services: Vec::new(),
        }
    }

    /// The service of this name.
    pub fn service(&mut self, name: &str) -> Result<&mut Service> {
        let found = self.services.iter_mut().find(|service| service.name == name);
        found.with_context(|| format!("no service {name} in the configuration"))
    }
}

impl Masquerade {
    /// On, for all that is outside the cluster.
    #[must_use]
    pub const fn on() -> Self {
        Self { enabled: true, exclude: Vec::new(), ports: None }
    }
}

impl Conntrack {
    fn is_default(&self) -> bool {
        self.timeout.is_empty()
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
            host_port: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Family;

    #[test]
    fn services_are_written_as_the_file_has_them() {
        let mut config = Config::new(&Spec::new("t-", 0, Family::V4, false));
        config.masquerade = Some(Masquerade { ports: Some("61000-61003".to_owned()), ..Masquerade::on() });
        config.conntrack.timeout.insert("udp".to_owned(), 5);
        let port = ServicePort::new(Protocol::Udp, 53).named("dns").node_port(30053);
        let mut service = Service::new("default/dns", &["10.32.0.10".parse().unwrap()])
            .with(port.backends(["10.200.0.10".parse().unwrap()], 5353))
            .with(ServicePort::new(Protocol::Tcp, 53));
        service.affinity = Some(Affinity { client_ip_seconds: 60 });
        service.external_traffic_policy = Some(Policy::Local);
        service.ports[0].backends[0].state = Some(State::ServingTerminating);
        config.services.push(service);
        let text = toml::to_string(&config).unwrap();
        let read: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(read["conntrack"]["timeout"]["udp"].as_integer(), Some(5));
        assert_eq!(read["masquerade"]["ports"].as_str(), Some("61000-61003"));
        let service = &read["service"][0];
        assert_eq!(service["external-traffic-policy"].as_str(), Some("Local"));
        assert_eq!(service["affinity"]["client-ip-seconds"].as_integer(), Some(60));
        assert_eq!(service["port"][0]["protocol"].as_str(), Some("UDP"));
        assert_eq!(service["port"][0]["node-port"].as_integer(), Some(30053));
        assert_eq!(service["port"][0]["backend"][0]["state"].as_str(), Some("serving-terminating"));
        assert_eq!(service["port"][1]["port"].as_integer(), Some(53));
    }
}
