//! Services and host ports as they were written.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    config::{
        diagnostic::{At, Place},
        reader::{List, Section},
        schema,
        value::{Fault, address, choice, integer, name, port, prefix},
    },
    desired::services::{Protocol, State},
};

/// `[[service]]`.
pub(in crate::config) struct Service {
    pub(super) place: Place,
    pub(super) name: Option<At<String>>,
    pub(super) cluster_ips: List<IpAddr>,
    pub(super) external_ips: List<IpAddr>,
    pub(super) load_balancer_ips: List<IpAddr>,
    pub(super) source_ranges: List<IpNet>,
    pub(super) affinity_seconds: u32,
    pub(super) external_local: bool,
    pub(super) internal_local: bool,
    pub(super) random: bool,
    pub(super) forwarding: Option<At<Forwarding>>,
    pub(super) health_check_port: Option<At<u16>>,
    pub(super) ports: Vec<Port>,
}

/// `[[service.port]]`.
pub(in crate::config) struct Port {
    pub(super) place: Place,
    pub(super) name: Option<At<String>>,
    pub(super) protocol: Protocol,
    pub(super) number: Option<At<u16>>,
    pub(super) at_node: Option<At<u16>>,
    pub(super) backends: Vec<Backend>,
}

/// `[[service.port.backend]]`.
pub(in crate::config) struct Backend {
    pub(super) address: Option<At<IpAddr>>,
    pub(super) port: Option<At<u16>>,
    pub(super) node: Option<At<String>>,
    pub(super) weight: u16,
    pub(super) state: State,
}

/// `[[pod.host-port]]`.
pub(in crate::config) struct HostPort {
    pub(super) place: Place,
    pub(super) number: Option<At<u16>>,
    pub(super) at_host: Option<At<u16>>,
    pub(super) protocol: Protocol,
    pub(super) host_ips: List<IpAddr>,
}

/// How callers from outside come to another node's backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarding {
    /// With this node's address, and back by this node.
    Snat,
    /// As they are, and answered directly.
    Dsr,
}

/// Longest time for which a client keeps its backend, that of Kubernetes: a day.
const AFFINITY_MAX: u32 = 86400;
/// Largest weight: a thousandth of the traffic is the least that anybody asks for.
const WEIGHT_MAX: u32 = 1000;

fn protocol(section: &Section<'_>) -> Protocol {
    let words = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
    section.optional("protocol", choice(&words)).map_or(Protocol::Tcp, |protocol| protocol.value)
}

fn weight(value: &toml::de::DeValue<'_>) -> Result<u16, Fault> {
    let weight = integer(0..=WEIGHT_MAX)(value)?;
    u16::try_from(weight).map_err(|_| Fault(format!("{weight} is not a weight")))
}

impl Service {
    /// Reads all of it.
    pub(in crate::config) fn read(section: &Section<'_>) -> Self {
        let policy = choice(&[("Cluster", false), ("Local", true)]);
        let is_local = |key| section.optional(key, &policy).is_some_and(|local| local.value);
        let forwarding = choice(&[("snat", Forwarding::Snat), ("dsr", Forwarding::Dsr)]);
        let algorithm = choice(&[("maglev", false), ("random", true)]);
        let affinity = section
            .table(&schema::AFFINITY)
            .and_then(|affinity| affinity.optional("client-ip-seconds", integer(0..=AFFINITY_MAX)));
        Self {
            place: section.place.clone(),
            name: section.required("name", name),
            cluster_ips: section.list("cluster-ip", address),
            external_ips: section.list("external-ip", address),
            load_balancer_ips: section.list("load-balancer-ip", address),
            source_ranges: section.list("source-ranges", prefix),
            affinity_seconds: affinity.map_or(0, |seconds| seconds.value),
            external_local: is_local("external-traffic-policy"),
            internal_local: is_local("internal-traffic-policy"),
            random: section.optional("algorithm", algorithm).is_some_and(|random| random.value),
            forwarding: section.optional("forwarding-mode", forwarding),
            health_check_port: section.optional("health-check-node-port", port),
            ports: section.required_tables(&schema::SERVICE_PORT).iter().map(Port::read).collect(),
        }
    }
}

impl Service {
    /// Whether callers from outside are handed on to the backends' nodes as they are. With the external policy Local there is nobody
    /// to hand on.
    pub(super) fn is_handed_on(&self) -> bool {
        let dsr = self.forwarding.as_ref().is_some_and(|it| it.value == Forwarding::Dsr);
        dsr && !self.external_local
    }

    /// Where it starts.
    pub(in crate::config) fn place(&self) -> &Place {
        &self.place
    }
}

impl Port {
    fn read(section: &Section<'_>) -> Self {
        Self {
            place: section.place.clone(),
            name: section.optional("name", name),
            protocol: protocol(section),
            number: section.required("port", port),
            at_node: section.optional("node-port", port),
            backends: section.tables(&schema::BACKEND).iter().map(Backend::read).collect(),
        }
    }
}

impl Backend {
    fn read(section: &Section<'_>) -> Self {
        let states = [
            ("ready", State::Ready),
            ("serving-terminating", State::ServingTerminating),
            ("not-ready", State::NotReady),
        ];
        Self {
            address: section.required("ip", address),
            port: section.optional("port", port),
            node: section.optional("node", name),
            weight: section.optional("weight", weight).map_or(1, |weight| weight.value),
            state: section.optional("state", choice(&states)).map_or(State::Ready, |state| state.value),
        }
    }
}

impl HostPort {
    /// Reads all of it.
    pub(in crate::config) fn read(section: &Section<'_>) -> Self {
        Self {
            place: section.place.clone(),
            number: section.required("port", port),
            at_host: section.required("host-port", port),
            protocol: protocol(section),
            host_ips: section.list("host-ip", address),
        }
    }
}
