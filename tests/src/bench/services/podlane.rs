//! Services by Podlane.

use std::{
    net::{IpAddr, SocketAddrV4},
    path::Path,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{HashMap, Map, MapData};
use common::{
    counters::Hook,
    maps::{Frontend, FrontendKey, capacity, name},
};
use nix::sys::signal::Signal;

use super::{
    Dataplane,
    plan::{self, Service},
};
use crate::{
    config::{self, Config},
    counters,
    podlane_node::PodlaneNode,
    setup, wait,
};

/// Where service addresses are.
const SERVICE_CIDR: &str = "10.32.0.0/16";
/// How long a great many services may take, in an unoptimised build.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is special about a variant of Podlane: this is the place of one's own for each.
pub fn configure(dataplane: Dataplane, config: &mut Config) -> Result<()> {
    if dataplane == Dataplane::PodlaneXdp {
        config.xdp = Some(config::Xdp { mode: "native".into() });
    }
    if dataplane == Dataplane::PodlaneSockets {
        config.sockets = Some(config::Sockets { mode: "on", cgroup: setup::cgroup()? });
    }
    Ok(())
}

/// Errs where XDP was to decide packets and has decided none, or the other way round.
pub fn ran_where_it_should(dataplane: Dataplane, nodes: &[PodlaneNode; 2]) -> Result<()> {
    let mut at_xdp = 0;
    for node in nodes {
        at_xdp += node.counters()?.received(Hook::UplinkXdp);
    }
    let wanted = dataplane == Dataplane::PodlaneXdp;
    ensure!((at_xdp > 0) == wanted, "{at_xdp} packets were decided at XDP by {}", dataplane.name());
    Ok(())
}

/// Starts both nodes with the services that are called, as any node of a cluster has some before there are many; their maps
/// have room for all of them.
pub fn start(nodes: &mut [PodlaneNode; 2], services: &[Service]) -> Result<()> {
    let elements: usize = services.iter().map(elements).sum();
    for node in nodes {
        node.config.maps.insert(name::MAGLEV.to_owned(), capacity::MAGLEV.max(elements.try_into()?));
        node.config.node.service_cidr = vec![SERVICE_CIDR.parse()?];
        node.config.masquerade = Some(config::Masquerade::on());
        node.config.services = plan::services(0, 0).iter().map(configured).collect();
        node.start()?;
    }
    Ok(())
}

/// Writes all services into the configuration of both nodes and waits until they are served.
pub fn load(nodes: &mut [PodlaneNode; 2], services: &[Service]) -> Result<()> {
    let expected: usize = services.iter().map(frontends).sum();
    thread::scope(|scope| {
        let loading = nodes.each_mut().map(|node| {
            scope.spawn(move || {
                node.config.services = services.iter().map(configured).collect();
                node.write_config()?;
                node.loader()?.signal(Signal::SIGHUP)?;
                wait_for(node, expected)
            })
        });
        let mut loaded = loading.into_iter().map(ScopedJoinHandle::join);
        loaded.try_for_each(|loaded| loaded.map_err(|_panic| anyhow!("a loading thread panicked"))?)
    })
}

/// Elements of `maglev` that a service takes: at least 64 for each backend, and as many again while it changes.
fn elements(service: &Service) -> usize {
    let least = 64 * service.backends.len();
    let table = [251, 1021, 4093, 16_381, 65_521].into_iter().find(|size| *size >= least);
    2 * table.unwrap_or(65_521) * service.protocols.len()
}

/// Waits until a node serves as many frontends: they are the last that the loader writes.
fn wait_for(node: &PodlaneNode, expected: usize) -> Result<()> {
    wait::until_after(PATIENCE, &format!("services of {} to be served", node.spec.name), || {
        let count = count(&counters::map_path(&node.pins(), name::FRONTENDS)?)?;
        ensure!(count == expected, "{count} of {expected} frontends are there");
        Ok(Some(()))
    })
}

fn count(path: &Path) -> Result<usize> {
    let map = MapData::from_pin(path).with_context(|| format!("open {}", path.display()))?;
    let map: HashMap<_, FrontendKey, Frontend> =
        Map::HashMap(map).try_into().context("the `frontends` map")?;
    Ok(map.keys().flatten().count())
}

/// One per address and port, and one for the service's address as such.
fn frontends(service: &Service) -> usize {
    let ports = service.protocols.len();
    1 + ports + if service.node_port.is_some() { ports } else { 0 }
}

fn configured(service: &Service) -> config::Service {
    let Service { name, cluster_ip, protocols, node_port, backends } = service;
    let port = |protocol: &plan::Protocol| {
        let (name, protocol) = match protocol {
            plan::Protocol::Tcp => ("tcp", config::Protocol::Tcp),
            plan::Protocol::Udp => ("udp", config::Protocol::Udp),
        };
        let mut port = config::ServicePort::new(protocol, plan::PORT).named(name);
        port.node_port = *node_port;
        let backend =
            |backend: &SocketAddrV4| config::Backend::new(IpAddr::from(*backend.ip()), backend.port());
        port.backends = backends.iter().map(backend).collect();
        port
    };
    protocols
        .iter()
        .map(port)
        .fold(config::Service::new(name, &[IpAddr::from(*cluster_ip)]), config::Service::with)
}
