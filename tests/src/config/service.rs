//! `[[service]]`: addresses and ports that stand for pods.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

/// `[[service]]`. [`Service::new`] leaves everything out that has a default.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// Name.
    pub name: String,
    /// Its own addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster_ip: Vec<IpAddr>,
    /// Addresses that something else brings to the nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_ip: Vec<IpAddr>,
    /// Addresses of a load balancer in front.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_ip: Vec<IpAddr>,
    /// Who may call at the load balancer's addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<IpNet>,
    /// `Cluster` or `Local`, for callers from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<Policy>,
    /// `Cluster` or `Local`, for callers inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<Policy>,
    /// How backends are picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// How callers from outside come to another node's backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding_mode: Option<Forwarding>,
    /// Port that tells load balancers whether this node has backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// How long a client keeps its backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// `[[service.port]]`.
    #[serde(rename = "port")]
    pub ports: Vec<ServicePort>,
}

/// Where a policy sends traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Policy {
    /// To any node's backends.
    Cluster,
    /// To backends of the node that it is on.
    Local,
}

/// How backends are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// By the hash of the connection, the same on every node.
    Maglev,
    /// At random.
    Random,
}

/// How callers from outside come to another node's backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// With the address of the node that they have called.
    Snat,
    /// As they are.
    Dsr,
}

/// `affinity`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Affinity {
    /// Seconds after its last connection.
    pub client_ip_seconds: u32,
}

/// `[[service.port]]`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServicePort {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Protocol.
    pub protocol: Protocol,
    /// Port at the service's own addresses.
    pub port: u16,
    /// Port of every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// `[[service.port.backend]]`.
    #[serde(rename = "backend", skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<Backend>,
}

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// `[[service.port.backend]]`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backend {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Its node; found by its address if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its part of new connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Whether it takes connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// Whether a backend takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It takes new ones.
    Ready,
    /// It is going, and takes new ones where nothing is ready.
    ServingTerminating,
    /// It takes none.
    NotReady,
}

/// `host-port` of a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostPort {
    /// Port of the pod.
    pub port: u16,
    /// Port of the node.
    pub host_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Addresses of the node; all if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_ip: Vec<IpAddr>,
}

impl Service {
    /// A service with these addresses of its own and no port yet.
    #[must_use]
    pub fn new(name: &str, cluster_ip: &[IpAddr]) -> Self {
        Self { name: name.to_owned(), cluster_ip: cluster_ip.to_vec(), ..Self::default() }
    }

    /// With one more port.
    #[must_use]
    pub fn with(mut self, port: ServicePort) -> Self {
        self.ports.push(port);
        self
    }
}

impl ServicePort {
    /// A port without backends yet.
    #[must_use]
    pub const fn new(protocol: Protocol, port: u16) -> Self {
        Self { name: None, protocol, port, node_port: None, backends: Vec::new() }
    }

    /// With a name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// With a port of every node.
    #[must_use]
    pub const fn node_port(mut self, port: u16) -> Self {
        self.node_port = Some(port);
        self
    }

    /// With backends at one port of these addresses.
    #[must_use]
    pub fn backends(mut self, addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Self {
        self.backends.extend(addresses.into_iter().map(|ip| Backend::new(ip, port)));
        self
    }
}

impl Backend {
    /// Ready, of weight 1, on the node that its address tells.
    #[must_use]
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip, port, node: None, weight: None, state: None }
    }
}
