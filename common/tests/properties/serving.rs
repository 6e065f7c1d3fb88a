//! One service with four backends, in memory.

use std::sync::LazyLock;

use common::{
    family::{Family, V4, V6},
    interest,
    maps::{Backend, Frontend, FrontendKey, Selection, Service, backend_flag, backend_state, scope},
    memory::ServiceTables,
};

use super::{padded, pod, underlay};

/// Port of the service.
pub const PORT: u16 = 80;
/// Its node port.
pub const NODE_PORT: u16 = 30080;
/// Port of its backends. SCTP keeps the one that was called.
pub const BACKEND_PORT: u16 = 8080;
/// Whom it has: node and host of a pod, in the order of their indices; IPv6's follow IPv4's.
pub const BACKENDS: [(u8, u8); 4] = [(0, 10), (0, 11), (1, 10), (2, 10)];

/// Its address.
pub fn address(v6: bool) -> Vec<u8> {
    if v6 { vec![0xfd, 0, 0, 0x10, 0x32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] } else { vec![10, 32, 0, 1] }
}

/// Index of the service of a family.
pub fn service(v6: bool) -> u32 {
    v6.into()
}

/// Index of the backend of a family.
pub fn backend(v6: bool, nth: usize) -> u32 {
    let first = if v6 { BACKENDS.len() } else { 0 };
    u32::try_from(first + nth).unwrap_or(u32::MAX)
}

/// The tables of node 0: made once, for every packet is decided with a node of its own.
pub static TABLES: LazyLock<ServiceTables> = LazyLock::new(|| {
    let mut tables = ServiceTables::default();
    for v6 in [false, true] {
        tables.interest.insert(interest::address(fold(v6, &address(v6))));
        tables.interest.insert(interest::address(fold(v6, &underlay(v6, 0))));
        tables.interest.insert(interest::address(fold(v6, &pod(v6, 0, 0))));
        for protocol in [6, 17, 132] {
            let frontend = Frontend { service: service(v6) };
            tables.frontends.insert(key(v6, &address(v6), PORT, protocol), frontend);
            tables.frontends.insert(key(v6, &underlay(v6, 0), NODE_PORT, protocol), frontend);
            let node_port = interest::endpoint(fold(v6, &underlay(v6, 0)), NODE_PORT.to_be_bytes(), protocol);
            tables.interest.insert(node_port);
        }
        let of_services = Frontend { service: Frontend::ADDRESS };
        tables.frontends.insert(key(v6, &address(v6), 0, 0), of_services);
        for (nth, (node, host)) in BACKENDS.into_iter().enumerate() {
            let address = pod(v6, node, host);
            for protocol in [6, 17, 132] {
                for port in [PORT, NODE_PORT, BACKEND_PORT] {
                    let bit = interest::endpoint(fold(v6, &address), port.to_be_bytes(), protocol);
                    tables.interest.insert(bit);
                }
            }
            let backend = Backend {
                address: padded(&address),
                port: BACKEND_PORT.to_be_bytes(),
                family: family(v6),
                state: backend_state::READY,
                generation: 1,
                group: service(v6),
                flags: if node == 0 { backend_flag::LOCAL } else { 0 },
            };
            tables.backends.insert(self::backend(v6, nth), backend);
        }
        let service = Service { generation: 1, group: service(v6), ..Service::default() };
        tables.services.insert(service.group, service);
        select(&mut tables, v6);
    }
    tables
});

/// Gives the service what backends it has for new connections: those that are ready, else those that terminate.
pub fn select(tables: &mut ServiceTables, v6: bool) {
    let in_state = |state| {
        let all = (0..BACKENDS.len()).map(|nth| backend(v6, nth));
        all.filter(|index| tables.backends[index].state == state).collect::<Vec<_>>()
    };
    let mut chosen = in_state(backend_state::READY);
    if chosen.is_empty() {
        chosen = in_state(backend_state::TERMINATING);
    }
    let first = 100 * service(v6);
    let word = match u32::try_from(chosen.len()).unwrap_or(0) {
        0 => Selection::Reject,
        count => Selection::Table { first, count },
    };
    tables.maglev.retain(|index, _| *index / 100 != service(v6));
    tables.maglev.extend((first..).zip(chosen));
    if let Some(service) = tables.services.get_mut(&service(v6)) {
        (service.inside, service.outside) = (word.pack(), word.pack());
    }
}

fn family(v6: bool) -> u8 {
    if v6 { 6 } else { 4 }
}

fn fold(v6: bool, address: &[u8]) -> u32 {
    let words = bytemuck::pod_read_unaligned(&padded(address));
    if v6 { V6::fold(V6::narrow(words)) } else { V4::fold(V4::narrow(words)) }
}

fn key(v6: bool, address: &[u8], port: u16, protocol: u8) -> FrontendKey {
    FrontendKey {
        address: padded(address),
        port: port.to_be_bytes(),
        protocol,
        family: family(v6),
        scope: scope::CALLED,
    }
}
