//! Services of the node, once, for the kernel's maps and for the model.

use std::net::IpAddr;

use common::{
    family::{Family as _, V4, V6},
    interest,
    maps::{Backend, Frontend, FrontendKey, Selection, Service, backend_state, scope, service_flag},
    memory::ServiceTables,
    node::Node,
    wire::load16,
};

use super::tables::padded;

/// One port of a service, of one family, as one kind of frontend exposes it.
#[derive(Clone, Debug)]
pub struct Exposure {
    /// Where it is called; all of one family.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// For whom: one of [`scope`].
    pub scope: u32,
    /// Whether the address is services' only, not the node's.
    pub own_address: bool,
    /// Address, port and [`backend_flag`](common::maps::backend_flag)s of its backends.
    pub backends: Vec<(IpAddr, u16, u32)>,
    /// Bits of [`service_flag`].
    pub flags: u32,
    /// Seconds of affinity.
    pub affinity: u32,
    /// Who may call, if not everybody: prefix and its length in bits.
    pub range: Option<(IpAddr, usize)>,
}

impl Exposure {
    /// At an address of its own, for everybody.
    #[must_use]
    pub fn new(address: IpAddr, port: u16, protocol: u8, backends: &[(IpAddr, u16, u32)]) -> Self {
        Self {
            address,
            port,
            protocol,
            scope: scope::CALLED,
            own_address: true,
            backends: backends.to_vec(),
            flags: 0,
            affinity: 0,
            range: None,
        }
    }

    /// At one of the node's addresses.
    #[must_use]
    pub fn node_port(address: IpAddr, port: u16, protocol: u8, backends: &[(IpAddr, u16, u32)]) -> Self {
        Self { own_address: false, ..Self::new(address, port, protocol, backends) }
    }

    /// With direct server return.
    #[must_use]
    pub fn dsr(self) -> Self {
        Self { flags: self.flags | service_flag::DSR, ..self }
    }

    /// For whom another node was called there and has handed on.
    #[must_use]
    pub fn handed_on(self) -> Self {
        Self { scope: scope::HANDED_ON, ..self }
    }
}

/// What the loader would write for the node's exposures.
#[must_use]
pub fn tables(node: &Node, exposures: &[Exposure]) -> ServiceTables {
    let mut tables = ServiceTables::default();
    for address in [fold(padded(bytes4(node.loopback4))), fold6(node.loopback6)] {
        tables.interest.insert(interest::address(address));
    }
    for (id, exposure) in (0..).zip(exposures) {
        add(&mut tables, id, exposure);
    }
    tables
}

fn add(tables: &mut ServiceTables, id: u32, exposure: &Exposure) {
    let family = if exposure.address.is_ipv4() { 4 } else { 6 };
    let key = FrontendKey {
        address: padded(exposure.address),
        port: exposure.port.to_be_bytes(),
        protocol: exposure.protocol,
        family,
        scope: exposure.scope,
    };
    tables.frontends.insert(key, Frontend { service: id });
    if exposure.own_address {
        let key = FrontendKey { port: [0; 2], protocol: 0, ..key };
        tables.frontends.insert(key, Frontend { service: Frontend::ADDRESS });
    }
    let address = folded(exposure.address);
    tables.interest.insert(interest::address(address));
    tables.interest.insert(interest::endpoint(address, key.port, exposure.protocol));
    let first = u32::try_from(tables.maglev.len()).unwrap_or(u32::MAX);
    for (index, (address, port, flags)) in (first..).zip(&exposure.backends) {
        let backend = Backend {
            address: padded(*address),
            port: port.to_be_bytes(),
            family,
            state: backend_state::READY,
            generation: 7,
            group: id,
            flags: *flags,
        };
        tables.backends.insert(index, backend);
        tables.maglev.insert(index, index);
        let bit = interest::endpoint(folded(*address), backend.port, exposure.protocol);
        tables.interest.insert(bit);
    }
    let count = u32::try_from(exposure.backends.len()).unwrap_or(u32::MAX);
    let selection = if count == 0 { Selection::Reject } else { Selection::Table { first, count } };
    let mut flags = exposure.flags;
    if let Some((address, bits)) = exposure.range {
        flags |= service_flag::SOURCE_RANGES;
        let range = common::maps::SourceRange { service: id.to_be_bytes(), address: padded(address) };
        tables.source_ranges.push((32 + bits, range));
    }
    let service = Service {
        inside: selection.pack(),
        outside: selection.pack(),
        generation: 3,
        group: id,
        affinity: exposure.affinity,
        flags,
    };
    tables.services.insert(id, service);
}

fn folded(address: IpAddr) -> u32 {
    if address.is_ipv4() { fold(padded(address)) } else { fold6(padded(address)) }
}

fn fold(address: [u8; 16]) -> u32 {
    V4::fold(V4::narrow(load16(&address)))
}

fn fold6(address: [u8; 16]) -> u32 {
    V6::fold(V6::narrow(load16(&address)))
}

fn bytes4(address: [u8; 4]) -> IpAddr {
    IpAddr::from(address)
}
