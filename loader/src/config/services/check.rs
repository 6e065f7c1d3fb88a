//! What must hold between the values of a service, and between them and the rest of the file.

use std::{collections::HashSet, net::IpAddr};

use super::{
    file::{Backend, Forwarding, HostPort, Port, Service},
    frontends::families,
};
use crate::{
    config::{
        diagnostic::{At, Errors, Place},
        file::{File, Node, Pod},
        unique::unique,
    },
    desired::{
        DEFAULT_PORT,
        placement::Cluster,
        services::{Family, Placement, Protocol},
    },
    maglev,
};

/// Checks services and host ports.
pub(in crate::config) fn check(errors: &Errors<'_>, file: &File) {
    let context = Context::new(errors, file);
    unique(errors, "name", file.services.iter().filter_map(|service| service.name.as_ref()), Clone::clone);
    unique(
        errors,
        "port",
        file.services.iter().filter_map(|service| service.health_check_port.as_ref()),
        |port| *port,
    );
    for service in &file.services {
        context.service(service);
    }
    for pod in &file.pods {
        context.host_ports(pod);
    }
}

/// What services are checked against.
pub(super) struct Context<'a> {
    pub(super) errors: &'a Errors<'a>,
    pub(super) file: &'a File,
    pub(super) cluster: Cluster<'a>,
    /// Whether `cluster` has all there is.
    pub(super) complete: bool,
    /// Names of this node and its peers.
    pub(super) nodes: HashSet<&'a str>,
    pub(super) cluster_ips: HashSet<IpAddr>,
    /// TCP node ports.
    node_ports: HashSet<u16>,
}

impl<'a> Context<'a> {
    fn new(errors: &'a Errors<'a>, file: &'a File) -> Self {
        let own = file.node.iter().map(|node| (&node.name, &node.addresses, &node.pod_cidrs));
        let all: Vec<_> =
            own.chain(file.peers.iter().map(|it| (&it.name, &it.addresses, &it.pod_cidrs))).collect();
        let ports = file.services.iter().flat_map(|service| &service.ports);
        let tcp = ports.filter(|port| port.protocol == Protocol::Tcp);
        Self {
            errors,
            file,
            cluster: file.cluster(),
            complete: file.node.is_some()
                && all.iter().all(|(name, ips, cidrs)| name.is_some() && ips.complete && cidrs.complete),
            nodes: all
                .iter()
                .filter_map(|(name, ..)| name.as_ref())
                .map(|name| name.value.as_str())
                .collect(),
            cluster_ips: file.services.iter().flat_map(|it| it.cluster_ips.values().copied()).collect(),
            node_ports: tcp.filter_map(|port| port.at_node.as_ref()).map(|port| port.value).collect(),
        }
    }

    fn service(&self, service: &Service) {
        let errors = self.errors;
        let lists = service.lists();
        for (list, may_be_node) in lists.into_iter().zip([false, true, true]) {
            for address in &list.items {
                self.address(address, may_be_node);
            }
        }
        unique(errors, "name", service.ports.iter().filter_map(|port| port.name.as_ref()), Clone::clone);
        let numbers: Vec<_> =
            service.ports.iter().filter_map(|it| number(it.protocol, it.number.as_ref())).collect();
        unique(errors, "protocol and port", numbers.iter(), |number| *number);
        self.source_ranges(service);
        self.health_check(service);
        self.forwarding(service);

        let no_node_port = service.ports.iter().all(|port| port.at_node.is_none());
        if lists.iter().all(|list| list.items.is_empty() && list.complete) && no_node_port {
            errors.odd(&service.place, "no address and no node port: nobody can call it");
        }
        let families = families(service);
        let at_node = service.addresses().any(|it| self.cluster.place(it.value).0 == Placement::Host);
        for port in &service.ports {
            if let (true, Some(number)) = (at_node, &port.number) {
                self.own_port(number.value, port.protocol, &number.place);
            }
            self.port(port, &families, service);
        }
    }

    /// An address of a service.
    fn address(&self, At { value: address, place }: &At<IpAddr>, may_be_node: bool) {
        let (placement, node) = self.cluster.place(*address);
        let message = match (placement, node) {
            (_, Some(node)) if self.cluster.is_pod(*address) => {
                format!("{address} is in a pod CIDR of {node}; services need addresses that no pod can have")
            }
            (_, Some(node)) if !may_be_node => {
                format!("{address} is an address of {node}; a service needs one of its own, or a node-port")
            }
            _ => return,
        };
        self.errors.wrong(place, message);
    }

    fn source_ranges(&self, service: &Service) {
        let ranges = &service.source_ranges;
        if ranges.items.is_empty() {
            return;
        }
        if service.load_balancer_ips.items.is_empty() && service.load_balancer_ips.complete {
            let message = "only addresses of load-balancer-ip have source ranges, and there are none";
            self.errors.wrong(&ranges.place, message);
        }
        for At { value: address, place } in &service.load_balancer_ips.items {
            let family = |ip: IpAddr| Family::of(ip) == Family::of(*address);
            if ranges.complete && !ranges.values().any(|range| family(range.addr())) {
                let (name, all) = if address.is_ipv4() { ("IPv4", "0.0.0.0/0") } else { ("IPv6", "::/0") };
                let ranges = self.errors.refer(&ranges.place);
                let message = format!(
                    "no {name} prefix in {ranges}, so nobody could call it; to let everyone in, add \"{all}\""
                );
                self.errors.wrong(place, message);
            }
        }
    }

    /// What keeps callers from being handed on.
    fn forwarding(&self, service: &Service) {
        let Some(At { value: Forwarding::Dsr, place }) = &service.forwarding else { return };
        if service.external_local {
            self.errors.odd(place, "with external-traffic-policy = \"Local\" no node has anybody to hand on");
        }
        let mut direct = self.file.direct_peers();
        let backends = || service.ports.iter().flat_map(|port| &port.backends);
        let on = |name: &str| {
            let addresses = backends().filter_map(|it| it.address.as_ref());
            addresses.into_iter().any(|it| self.cluster.place(it.value).1 == Some(name))
        };
        if let Some(name) = direct.find(|name| on(name)) {
            let message = format!(
                "{name} has backends and is a direct peer: callers are handed on in a tunnel only, so all of them get this \
                 node's address as with \"snat\""
            );
            self.errors.odd(place, message);
        }
    }

    fn health_check(&self, service: &Service) {
        let Some(At { value: port, place }) = &service.health_check_port else { return };
        if !service.external_local {
            let message =
                "of use with external-traffic-policy = \"Local\" only: otherwise every node has endpoints";
            self.errors.wrong(place, message);
        }
        if self.node_ports.contains(port) {
            self.errors.wrong(place, format!("{port} is a node port too"));
        }
        self.own_port(*port, Protocol::Tcp, place);
    }

    /// A port at the node's own addresses.
    fn own_port(&self, port: u16, protocol: Protocol, place: &Place) {
        let masquerade = &self.file.masquerade;
        let ports = masquerade.ports();
        if ports.contains(&port) {
            let (first, last) = (ports.start(), ports.end());
            let whose =
                masquerade.ports.as_ref().map_or("by default".to_owned(), |it| self.errors.refer(&it.place));
            let message = format!("{port} is among the ports to masquerade with, {first}-{last}, {whose}");
            self.errors.wrong(place, message);
        }
        let vxlan = self.file.overlay.port.as_ref().map_or(u32::from(DEFAULT_PORT), |port| port.value);
        if protocol == Protocol::Udp && u32::from(port) == vxlan {
            self.errors.wrong(place, format!("{port} is VXLAN's own port, overlay.port"));
        }
    }

    fn port(&self, port: &Port, families: &[Family], service: &Service) {
        let errors = self.errors;
        if let Some(At { value, place }) = &port.at_node {
            self.own_port(*value, port.protocol, place);
            if let Some(own) =
                port.number.as_ref().filter(|own| port.protocol == Protocol::Sctp && own.value != *value)
            {
                errors.wrong(place, sctp(own.value));
            }
        }
        for family in families {
            let of_family =
                |it: &&Backend| it.address.as_ref().is_some_and(|it| Family::of(it.value) == *family);
            let backends = || port.backends.iter().filter(of_family);
            let count = backends().count();
            if count > maglev::MAX_ENDPOINTS {
                let message = format!(
                    "{count} {} backends; a port of a service has {} at most",
                    family.name(),
                    maglev::MAX_ENDPOINTS
                );
                errors.wrong(&port.place, message);
            } else if service.random {
                let weights: Vec<_> = backends().map(|backend| backend.weight).collect();
                let length = maglev::random_length(&weights);
                if length > maglev::MAX_LENGTH {
                    let message = format!(
                        "the weights of its {} backends add up to {length} in lowest terms, and {} is the most \
                         that a table has; give smaller ones, or algorithm = \"maglev\"",
                        family.name(),
                        maglev::MAX_LENGTH
                    );
                    errors.wrong(&port.place, message);
                }
            }
        }
        self.backends(port, families, service);
    }

    fn host_ports(&self, pod: &Pod) {
        let errors = self.errors;
        let numbers: Vec<_> =
            pod.host_ports.iter().filter_map(|it| number(it.protocol, it.at_host.as_ref())).collect();
        unique(errors, "protocol and host port", numbers.iter(), |number| *number);
        for HostPort { number, at_host, protocol, host_ips, place } in &pod.host_ports {
            if let Some(At { value, place }) = at_host {
                self.own_port(*value, *protocol, place);
                if let Some(own) =
                    number.as_ref().filter(|own| *protocol == Protocol::Sctp && own.value != *value)
                {
                    errors.wrong(place, sctp(own.value));
                }
            }
            let has = |ip: &IpAddr| pod.addresses.values().any(|own| own.is_ipv4() == ip.is_ipv4());
            for ip in &host_ips.items {
                if pod.addresses.complete && !has(&ip.value) {
                    errors.wrong(&ip.place, "of a family in which the pod has no address");
                }
                self.address(ip, true);
            }
            unique(errors, "address", host_ips.items.iter(), |ip| *ip);
            let has_some = self.file.node.iter().flat_map(Node::node_port_addresses).any(|ip| has(&ip));
            if host_ips.items.is_empty()
                && host_ips.complete
                && pod.addresses.complete
                && self.complete
                && !has_some
            {
                errors
                    .missing(&place.under("host-ip"), "missing; the node has no address of the pod's family");
            }
        }
    }
}

/// What a SCTP port is to be.
pub(super) fn sctp(port: u16) -> String {
    format!("not {port}: of SCTP only addresses are translated, so its ports are the same on both sides")
}

fn number(protocol: Protocol, port: Option<&At<u16>>) -> Option<At<(Protocol, u16)>> {
    port.map(|port| At { value: (protocol, port.value), place: port.place.clone() })
}
