//! Services: where they are called, and who answers how much.

use std::{collections::HashMap, net::IpAddr};

use anyhow::Context as _;
use aya::Pod;
use common::maps::{Backend, Connection, Tuple, backend_flag, backend_state, name};

use super::connections::for_each;
use crate::{
    bpf::pinned_array,
    conntrack::{
        collect::{BackendId, Total, backend_of},
        table::Address,
    },
    paths::NodePaths,
    report::{BackendRow, FrontendRow, ServiceRow, ServicesReport},
    state::{CollectorState, ExposureState, ServiceState, ServicesState},
};

/// The services of a node whose name contains `name`.
pub fn services(paths: &NodePaths, name: Option<&str>) -> anyhow::Result<ServicesReport> {
    let state = ServicesState::read(&paths.services())?;
    let wanted = |service: &ServiceState| name.is_none_or(|name| service.service.contains(name));
    let backends = backends(paths)?;
    let row = |service: ServiceState| {
        let backends = backends.get(&service.group).cloned().unwrap_or_default();
        ServiceRow {
            service: service.service,
            port_name: service.port_name,
            protocol: service.protocol,
            port: service.port,
            algorithm: if service.random { "random" } else { "maglev" },
            affinity_seconds: service.affinity_seconds,
            frontends: service.exposures.into_iter().map(frontends).collect(),
            backends,
        }
    };
    let services = state.services.into_iter().filter(wanted).map(row).collect();
    Ok(ServicesReport { node: paths.node().to_owned(), services })
}

fn frontends(exposure: ExposureState) -> FrontendRow {
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    FrontendRow {
        kind: exposure.kind,
        addresses: exposure.frontends,
        internal_policy: policy(exposure.inside_local),
        external_policy: policy(exposure.outside_local),
    }
}

/// The backends of each service port, by its number.
fn backends(paths: &NodePaths) -> anyhow::Result<HashMap<u32, Vec<BackendRow>>> {
    let elements = pinned_array(paths, name::BACKENDS, size_of::<Backend>()).with_context(|| {
        format!("map {} of node {}; start it with `loader run`", name::BACKENDS, paths.node())
    })?;
    let ever = CollectorState::read(&paths.collector()).unwrap_or_default().totals;
    let mut now = HashMap::new();
    count::<[u8; 4]>(paths, &mut now)?;
    count::<[u8; 16]>(paths, &mut now)?;
    let mut rows: HashMap<u32, Vec<BackendRow>> = HashMap::new();
    for id in 0..elements.len() {
        let backend: Backend = bytemuck::cast([0, 1, 2, 3].map(|word| elements.load(id, word)));
        if backend.family == 0 {
            continue;
        }
        let of = |totals: &HashMap<BackendId, Total>| {
            totals.get(&(id, backend.generation)).copied().unwrap_or_default()
        };
        let (now, ever) = (of(&now), of(&ever));
        rows.entry(backend.group).or_default().push(BackendRow {
            address: address(&backend),
            port: u16::from_be_bytes(backend.port),
            state: state(backend.state),
            placement: placement(backend.flags),
            connections: now.connections,
            connections_ever: now.connections + ever.connections,
            packets: now.packets + ever.packets,
            bytes: now.bytes + ever.bytes,
        });
    }
    for rows in rows.values_mut() {
        rows.sort_by_key(|row| (row.address, row.port));
    }
    Ok(rows)
}

/// Adds what the connections that there are have counted.
fn count<A: Address>(paths: &NodePaths, totals: &mut HashMap<BackendId, Total>) -> anyhow::Result<()>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    for_each::<A>(paths, |_, forward, reply, _, _| {
        if let Some(backend) = backend_of(&forward) {
            let total = totals.entry(backend).or_default();
            total.add(1, forward.connection.packets, forward.connection.bytes);
            if let Some(reply) = reply.filter(|reply| reply.key != forward.key) {
                total.add(0, reply.connection.packets, reply.connection.bytes);
            }
        }
        Ok(())
    })
}

fn address(backend: &Backend) -> IpAddr {
    let [a, b, c, d, ..] = backend.address;
    if backend.family == 4 { [a, b, c, d].into() } else { backend.address.into() }
}

const fn state(state: u8) -> &'static str {
    match state {
        backend_state::READY => "ready",
        backend_state::TERMINATING => "serving-terminating",
        backend_state::NOT_READY => "not-ready",
        _ => "gone",
    }
}

const fn placement(flags: u32) -> &'static str {
    const HOST: u32 = backend_flag::LOCAL | backend_flag::HOST;
    match flags {
        HOST => "host",
        backend_flag::LOCAL => "local",
        backend_flag::EXTERNAL => "external",
        _ => "remote",
    }
}
