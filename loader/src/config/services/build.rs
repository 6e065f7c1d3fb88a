//! The desired state of services, from a file that is right.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    file::{Backend, HostPort, Port, Service},
    frontends::{Frontends, families},
};
use crate::{
    config::file::{File, Node, Pod},
    desired::{
        gateway_of,
        placement::Cluster,
        selection::{Policies, healthy},
        services::{Endpoint, Exposure, Family, HealthCheck, Kind, Owner, Placement, ServicePort, State},
    },
};

/// The ports of all services and the host ports of all pods, sorted; `None` if the file has errors.
pub(in crate::config) fn services(file: &File, frontends: &Frontends) -> Option<Vec<ServicePort>> {
    let node = file.node.as_ref()?;
    let cluster = file.cluster();
    let mut built = Vec::new();
    for (index, service) in file.services.iter().enumerate() {
        let families = families(service);
        for (number, port) in service.ports.iter().enumerate() {
            let of = frontends.of((Owner::Service, index, number));
            for family in &families {
                built.extend(of_service(file, service, port, *family, of, &cluster)?);
            }
        }
    }
    for (index, pod) in file.pods.iter().enumerate() {
        for (number, port) in pod.host_ports.iter().enumerate() {
            let of = frontends.of((Owner::Pod, index, number));
            for family in [Family::V4, Family::V6] {
                built.extend(of_pod(node, pod, port, family, of)?);
            }
        }
    }
    built.sort_by(|a, b| a.key().cmp(&b.key()));
    Some(built)
}

/// A port of a service in one family; `Some(None)` if nobody can call it.
#[expect(clippy::option_option, reason = "whether the file is right, and whether there is anything")]
fn of_service(
    file: &File,
    service: &Service,
    port: &Port,
    family: Family,
    frontends: &[(Kind, IpAddr, u16)],
    cluster: &Cluster<'_>,
) -> Option<Option<ServicePort>> {
    let node = file.node.as_ref()?;
    let name = service.name.as_ref()?.value.clone();
    let number = port.number.as_ref()?.value;
    let by_kind = by_kind(frontends, family);
    if by_kind.is_empty() {
        return Some(None);
    }
    let of_family = |it: &&Backend| it.address.as_ref().is_none_or(|it| Family::of(it.value) == family);
    let backends = port.backends.iter().filter(of_family);
    let mut endpoints = backends.map(|it| endpoint(it, number, cluster)).collect::<Option<Vec<_>>>()?;
    endpoints.sort_by_key(|it| (it.address, it.port));

    let handed_on = service.is_handed_on();
    let policies = Policies {
        internal_local: service.internal_local,
        external_local: service.external_local,
        dsr: handed_on && !endpoints.iter().any(|it| is_direct(file, it)),
    };
    let elsewhere = if handed_on { called_elsewhere(file, port, family, &by_kind) } else { Vec::new() };
    let exposures = by_kind.into_iter().map(|(kind, addresses)| {
        let ranges = if kind == Kind::LoadBalancer { ranges(node, service, family) } else { Vec::new() };
        Exposure::new(kind, addresses, &endpoints, policies, ranges)
    });
    let of_others = Exposure::new(Kind::HandedOn, elsewhere, &endpoints, policies, Vec::new());
    let of_others = Some(of_others).filter(|it| !it.frontends.is_empty());
    let exposures = exposures.chain(of_others).collect();
    Some(Some(ServicePort {
        owner: Owner::Service,
        service: name,
        port_name: port.name.as_ref().map(|name| name.value.clone()),
        family,
        protocol: port.protocol,
        port: number,
        affinity_seconds: service.affinity_seconds,
        random: service.random,
        endpoints,
        exposures,
    }))
}

/// Whether an endpoint's node is reached without a tunnel, in which alone somebody can be handed on.
fn is_direct(file: &File, endpoint: &Endpoint) -> bool {
    let is_its = |name: &&str| endpoint.node.as_deref() == Some(*name);
    file.direct_peers().any(|name| is_its(&name))
}

/// Where other nodes are called that hand their callers on to this one, sorted.
fn called_elsewhere(
    file: &File,
    port: &Port,
    family: Family,
    here: &BTreeMap<Kind, Vec<(IpAddr, u16)>>,
) -> Vec<(IpAddr, u16)> {
    let everywhere = [Kind::ExternalIp, Kind::LoadBalancer].into_iter().filter_map(|kind| here.get(&kind));
    let nodes = file.peers.iter().flat_map(|peer| peer.addresses.values().copied());
    let nodes = nodes.filter(|address| Family::of(*address) == family);
    let at_node = port.at_node.as_ref().map(|port| port.value);
    let at_nodes = nodes.filter_map(|address| Some((address, at_node?)));
    let mut frontends: Vec<_> = everywhere.flatten().copied().chain(at_nodes).collect();
    frontends.sort_unstable();
    frontends.dedup();
    frontends
}

/// The frontends of one family, sorted, by their kind.
fn by_kind(frontends: &[(Kind, IpAddr, u16)], family: Family) -> BTreeMap<Kind, Vec<(IpAddr, u16)>> {
    let mut by_kind: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (kind, address, port) in frontends.iter().filter(|(_, address, _)| Family::of(*address) == family) {
        by_kind.entry(*kind).or_default().push((*address, *port));
    }
    for frontends in by_kind.values_mut() {
        frontends.sort_unstable();
    }
    by_kind
}

fn endpoint(backend: &Backend, port: u16, cluster: &Cluster<'_>) -> Option<Endpoint> {
    let address = backend.address.as_ref()?.value;
    let (placement, node) = cluster.place(address);
    Some(Endpoint {
        address,
        port: backend.port.as_ref().map_or(port, |port| port.value),
        node: node.map(str::to_owned),
        weight: backend.weight,
        state: backend.state,
        placement,
    })
}

/// Who may call the load balancer's addresses. The node calls them from its gateway address: in Kubernetes it may if one of
/// the node's own addresses may.
fn ranges(node: &Node, service: &Service, family: Family) -> Vec<IpNet> {
    let of_family = |address: IpAddr| Family::of(address) == family;
    let mut ranges: Vec<_> =
        service.source_ranges.values().filter(|range| of_family(range.addr())).copied().collect();
    let mut nodes = node.addresses.values().filter(|address| of_family(**address));
    if nodes.any(|address| ranges.iter().any(|range| range.contains(address))) {
        let gateway = node.pod_cidrs.values().find(|cidr| of_family(cidr.addr())).map(gateway_of);
        ranges.extend(gateway.map(IpNet::from));
    }
    let mut ranges = IpNet::aggregate(&ranges);
    ranges.sort_unstable();
    ranges
}

/// A host port of a pod in one family; `Some(None)` if there is none.
#[expect(clippy::option_option, reason = "as above")]
fn of_pod(
    node: &Node,
    pod: &Pod,
    port: &HostPort,
    family: Family,
    frontends: &[(Kind, IpAddr, u16)],
) -> Option<Option<ServicePort>> {
    let mut addresses = pod.addresses.values().filter(|address| Family::of(**address) == family);
    let by_kind = by_kind(frontends, family);
    let (Some(address), false) = (addresses.next(), by_kind.is_empty()) else { return Some(None) };
    let endpoints = vec![Endpoint {
        address: *address,
        port: port.number.as_ref()?.value,
        node: node.name.as_ref().map(|name| name.value.clone()),
        weight: 1,
        state: State::Ready,
        placement: Placement::Local,
    }];
    let exposure =
        |(kind, frontends)| Exposure::new(kind, frontends, &endpoints, Policies::default(), Vec::new());
    Some(Some(ServicePort {
        owner: Owner::Pod,
        service: pod.name.as_ref()?.value.clone(),
        port_name: None,
        family,
        protocol: port.protocol,
        port: port.at_host.as_ref()?.value,
        affinity_seconds: 0,
        random: false,
        exposures: by_kind.into_iter().map(exposure).collect(),
        endpoints,
    }))
}

/// What load balancers are told, sorted by port.
pub(in crate::config) fn health_checks(file: &File, services: &[ServicePort]) -> Vec<HealthCheck> {
    let mut local: HashMap<&str, BTreeSet<IpAddr>> = HashMap::new();
    for port in services.iter().filter(|port| port.owner == Owner::Service) {
        local.entry(&port.service).or_default().extend(healthy(&port.endpoints));
    }
    let mut checks: Vec<_> = file
        .services
        .iter()
        .filter_map(|service| {
            let (name, port) = (&service.name.as_ref()?.value, service.health_check_port.as_ref()?.value);
            let addresses = local.get(name.as_str());
            let of = |ipv4| addresses.map_or(0, |all| all.iter().filter(|ip| ip.is_ipv4() == ipv4).count());
            Some(HealthCheck { service: name.clone(), port, local_endpoints: of(true).max(of(false)) })
        })
        .collect();
    checks.sort_by_key(|check| check.port);
    checks
}
