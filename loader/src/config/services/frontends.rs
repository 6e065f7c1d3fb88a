//! At which addresses and ports services are called: each stands for one of them.
//!
//! Where two services ask for the same one, that whose name sorts first has it, on every node alike, and the other one is
//! warned of. Host ports come last.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::file::{HostPort, Port, Service};
use crate::{
    config::{
        diagnostic::{At, Errors, Place},
        file::{File, Node},
        reader::List,
    },
    desired::services::{Family, Kind, Owner, Protocol},
};

/// Which port of which service or pod, by their places in the file.
pub(super) type Of = (Owner, usize, usize);

/// The frontends that each port has.
#[derive(Default)]
pub(in crate::config) struct Frontends {
    of: HashMap<Of, Vec<(Kind, IpAddr, u16)>>,
}

impl Frontends {
    /// Those of one port.
    pub(super) fn of(&self, of: Of) -> &[(Kind, IpAddr, u16)] {
        self.of.get(&of).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A frontend that is asked for.
struct Claim<'a> {
    of: Of,
    /// Name of the service or pod.
    name: &'a str,
    kind: Kind,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
    /// What asks for it.
    place: &'a Place,
}

impl Claim<'_> {
    fn show(&self) -> String {
        let Self { address, port, protocol, .. } = self;
        format!("{}/{}", std::net::SocketAddr::new(*address, *port), protocol.name())
    }
}

/// Settles who has which frontend.
pub(in crate::config) fn resolve(errors: &Errors<'_>, file: &File) -> Frontends {
    let mut claims = claims(file);
    claims.sort_by_key(|claim| (claim.of.0, claim.name, claim.of));
    let mut first: HashMap<(IpAddr, u16, Protocol), &Claim<'_>> = HashMap::with_capacity(claims.len());
    let mut frontends = Frontends::default();
    let mut told = HashSet::new();
    for claim in &claims {
        let Some(holder) = first.get(&(claim.address, claim.port, claim.protocol)) else {
            first.insert((claim.address, claim.port, claim.protocol), claim);
            frontends.of.entry(claim.of).or_default().push((claim.kind, claim.address, claim.port));
            continue;
        };
        let other = errors.refer(holder.place);
        if (claim.of.0, claim.of.1) == (holder.of.0, holder.of.1) {
            // Two ports of one number are told of where the ports are.
            let of_one_pod = claim.of.0 == Owner::Pod;
            if !of_one_pod && claim.place.span != holder.place.span {
                errors.wrong(claim.place, format!("{} is at {other} already", claim.show()));
            }
        } else if told.insert((claim.place.span.start, claim.port, holder.of)) {
            let message = format!(
                "{} is \"{}\"'s, by {other}, as its name sorts first; \"{}\" is not reached there",
                claim.show(),
                holder.name,
                claim.name,
            );
            errors.odd(claim.place, message);
        }
    }
    frontends
}

fn claims(file: &File) -> Vec<Claim<'_>> {
    let mut claims = Vec::new();
    let node_ports: Vec<_> = file.node.iter().flat_map(Node::node_port_addresses).collect();
    for (index, service) in file.services.iter().enumerate() {
        let families = families(service);
        for (number, port) in service.ports.iter().enumerate() {
            of_service(&mut claims, (Owner::Service, index, number), service, port, &node_ports, &families);
        }
    }
    for (index, pod) in file.pods.iter().enumerate() {
        for (number, port) in pod.host_ports.iter().enumerate() {
            let (Some(name), Some(at)) = (&pod.name, &port.at_host) else { continue };
            let addresses = host_addresses(port, &node_ports).into_iter();
            let has = |address: &IpAddr| pod.addresses.values().any(|ip| ip.is_ipv4() == address.is_ipv4());
            claims.extend(addresses.filter(has).map(|address| Claim {
                of: (Owner::Pod, index, number),
                name: &name.value,
                kind: Kind::HostPort,
                address,
                port: at.value,
                protocol: port.protocol,
                place: &at.place,
            }));
        }
    }
    claims
}

fn host_addresses(port: &HostPort, node_ports: &[IpAddr]) -> Vec<IpAddr> {
    if port.host_ips.items.is_empty() {
        node_ports.to_vec()
    } else {
        port.host_ips.values().copied().collect()
    }
}

fn of_service<'a>(
    claims: &mut Vec<Claim<'a>>,
    of: Of,
    service: &'a Service,
    port: &'a Port,
    node_ports: &[IpAddr],
    families: &[Family],
) {
    let Some(At { value: name, .. }) = &service.name else { return };
    let mut add = |kind, address, number, place| {
        claims.push(Claim { of, name, kind, address, port: number, protocol: port.protocol, place });
    };
    if let Some(number) = &port.number {
        for (kind, addresses) in [
            (Kind::ClusterIp, &service.cluster_ips),
            (Kind::ExternalIp, &service.external_ips),
            (Kind::LoadBalancer, &service.load_balancer_ips),
        ] {
            for At { value: address, place } in &addresses.items {
                add(kind, *address, number.value, place);
            }
        }
    }
    if let Some(number) = &port.at_node {
        for address in node_ports.iter().filter(|address| families.contains(&Family::of(**address))) {
            add(Kind::NodePort, *address, number.value, &number.place);
        }
    }
}

/// The families in which a service is called: those of its addresses, and without any those of its backends.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let of = |addresses: &mut dyn Iterator<Item = IpAddr>| -> HashSet<Family> {
        addresses.map(Family::of).collect()
    };
    let mut found = of(&mut service.addresses().map(|address| address.value));
    if found.is_empty() {
        let backends = service.ports.iter().flat_map(|port| &port.backends);
        found = of(&mut backends.filter_map(|backend| backend.address.as_ref()).map(|address| address.value));
    }
    if found.is_empty() {
        found.extend([Family::V4, Family::V6]);
    }
    let mut families: Vec<_> = found.into_iter().collect();
    families.sort_unstable();
    families
}

impl Service {
    /// The lists of its own addresses.
    pub(super) fn lists(&self) -> [&List<IpAddr>; 3] {
        [&self.cluster_ips, &self.external_ips, &self.load_balancer_ips]
    }

    /// All its own addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &At<IpAddr>> {
        self.lists().into_iter().flat_map(|list| &list.items)
    }
}
