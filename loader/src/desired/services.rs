//! Services: addresses and ports that stand for pods.
//!
//! Which endpoints take a connection is decided here, by Kubernetes' rules; the rest of the loader
//! writes it into maps.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

/// One port of a service, or one host port of a pod, of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// What `service` names.
    pub owner: Owner,
    /// Name of the service, as a rule `namespace/name`; of the pod if it is a host port.
    pub service: String,
    /// Name of the port, if it has one.
    pub port_name: Option<String>,
    /// Family of all its addresses.
    pub family: Family,
    /// Protocol.
    pub protocol: Protocol,
    /// Port at the service's own addresses; of a host port the port itself.
    pub port: u16,
    /// For how long after its last connection a client keeps its endpoint; 0: not at all.
    pub affinity_seconds: u32,
    /// Endpoints are picked at random instead of by Maglev.
    pub random: bool,
    /// Who answers, sorted by address and port, each once.
    pub endpoints: Vec<Endpoint>,
    /// Where it is called, sorted by kind, each kind once; at least one.
    pub exposures: Vec<Exposure>,
}

/// What a [`ServicePort`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A service.
    Service,
    /// A pod of this node, whose host port it is.
    Pod,
}

/// Family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

/// Protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, of which addresses are translated and ports never.
    Sctp,
}

/// Who answers for a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Name of its node, if it is known: of the one whose pods or own address it is among.
    pub node: Option<String>,
    /// Its part of new connections, in relation to the others'; 0: none.
    pub weight: u16,
    /// Whether it takes connections.
    pub state: State,
    /// Where it is.
    pub placement: Placement,
}

/// Whether an endpoint takes connections, as an `EndpointSlice` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It takes new ones.
    Ready,
    /// It is going, and takes new ones where nothing is ready.
    ServingTerminating,
    /// It takes none.
    NotReady,
}

/// Where an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// A pod of this node.
    Local,
    /// This node itself.
    Host,
    /// A pod of another node, or another node.
    Remote,
    /// Outside the cluster.
    External,
}

/// The frontends of one kind of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// Their kind.
    pub kind: Kind,
    /// Addresses and ports, sorted, each once over all services.
    pub frontends: Vec<(IpAddr, u16)>,
    /// Who answers the pods of this node and the node itself.
    pub inside: Candidates,
    /// Who answers what comes in by an uplink.
    pub outside: Candidates,
    /// Who may call, sorted and disjoint; empty: everyone.
    pub source_ranges: Vec<IpNet>,
    /// `inside` has endpoints of this node only.
    pub inside_local: bool,
    /// `outside` has endpoints of this node only.
    pub outside_local: bool,
    /// Who calls from outside and gets an endpoint of another node is handed on to that node as he is, and answered by it.
    pub dsr: bool,
}

/// Kind of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// The service's own address.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// An address that something else brings to the nodes.
    #[serde(rename = "ExternalIP")]
    ExternalIp,
    /// An address of a load balancer in front.
    LoadBalancer,
    /// A port of every node.
    NodePort,
    /// A port of a pod's node.
    HostPort,
    /// What is called at another node that hands its callers on to endpoints of this one: its node port, an external address, a
    /// load balancer's.
    #[serde(rename = "DSR")]
    HandedOn,
}

/// Who takes new connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidates {
    /// Nobody anywhere: the client is told.
    Reject,
    /// Nobody here: the client is not told, as a load balancer in front may be about to find out.
    Drop,
    /// These of the endpoints, by index, in order; at least one, each with a weight.
    Endpoints(Vec<usize>),
}

/// Answers, on a port of this node, whether it has endpoints of a service: Kubernetes' `healthCheckNodePort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// Name of the service.
    pub service: String,
    /// The port.
    pub port: u16,
    /// How many ready endpoints of the service are on this node: distinct addresses, of the family that has more.
    pub local_endpoints: usize,
}

/// What tells a [`ServicePort`] from all others.
pub type ServicePortKey<'a> = (Owner, &'a str, Protocol, u16, Family);

impl ServicePort {
    /// What tells it from all others.
    #[must_use]
    pub fn key(&self) -> ServicePortKey<'_> {
        (self.owner, &self.service, self.protocol, self.port, self.family)
    }
}

impl Family {
    /// Of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `IPv4` or `IPv6`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// 4 or 6.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

impl Protocol {
    /// As it is written: `TCP`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl Kind {
    /// As it is written: `ClusterIP`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
            Self::HostPort => "HostPort",
            Self::HandedOn => "DSR",
        }
    }

    /// Whether its addresses are those of services, rather than of nodes.
    #[must_use]
    pub const fn has_own_addresses(self) -> bool {
        matches!(self, Self::ClusterIp | Self::ExternalIp | Self::LoadBalancer)
    }
}
