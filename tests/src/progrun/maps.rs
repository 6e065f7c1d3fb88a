//! The maps of loaded programs: found by name, and filled in.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, lpm_trie::Key},
};
use common::{
    maps::{Backend, Frontend, FrontendKey, Service, Source, name},
    memory::ServiceTables,
};

use super::tables::Tables;
use crate::bpf_map::Bytes;

/// A map by its name, without its types: read or written at once it takes a call, where each of its elements would take one.
pub fn bytes<'a>(ebpf: &'a Ebpf, name: &str) -> Result<Bytes<'a>> {
    Bytes::of(ebpf.map(name).with_context(|| format!("no map {name} in the object"))?)
}

/// A map by its name.
pub fn map<'a, M>(ebpf: &'a Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<&'a Map>,
    M::Error: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf.map(name).with_context(|| format!("no map {name} in the object"))?;
    M::try_from(map).with_context(|| format!("map {name}"))
}

/// A map by its name, to be changed.
pub fn map_mut<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<&'a mut Map>,
    M::Error: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf.map_mut(name).with_context(|| format!("no map {name} in the object"))?;
    M::try_from(map).with_context(|| format!("map {name}"))
}

/// Fills in what the node knows.
pub fn fill(ebpf: &mut Ebpf, tables: &Tables) -> Result<()> {
    for (address, pod) in &tables.pods {
        insert(ebpf, [name::PODS4, name::PODS6], *address, *pod)?;
    }
    for (address, vtep) in &tables.vteps {
        insert(ebpf, [name::VTEPS4, name::VTEPS6], *address, *vtep)?;
    }
    for (prefix, route) in &tables.routes {
        let bits = u32::from(prefix.prefix_len());
        match prefix.addr() {
            IpAddr::V4(address) => insert_prefix(ebpf, name::ROUTES4, bits, address.octets(), **route),
            IpAddr::V6(address) => insert_prefix(ebpf, name::ROUTES6, bits, address.octets(), **route),
        }?;
    }
    for (device, prefix, allowed) in &tables.sources {
        let bits = 32 + u32::from(prefix.prefix_len());
        let ifindex = device.to_be_bytes();
        match prefix.addr() {
            IpAddr::V4(address) => {
                let source = Source { ifindex, address: address.octets() };
                insert_prefix(ebpf, name::SOURCES4, bits, source, *allowed)
            }
            IpAddr::V6(address) => {
                let source = Source { ifindex, address: address.octets() };
                insert_prefix(ebpf, name::SOURCES6, bits, source, *allowed)
            }
        }?;
    }
    fill_services(ebpf, &tables.services)
}

fn fill_services(ebpf: &mut Ebpf, tables: &ServiceTables) -> Result<()> {
    let mut frontends: HashMap<_, FrontendKey, Frontend> = map_mut(ebpf, name::FRONTENDS)?;
    for (key, frontend) in &tables.frontends {
        frontends.insert(key, frontend, 0)?;
    }
    let mut services: Array<_, Service> = map_mut(ebpf, name::SERVICES)?;
    for (index, service) in &tables.services {
        services.set(*index, service, 0)?;
    }
    let mut maglev: Array<_, u32> = map_mut(ebpf, name::MAGLEV)?;
    for (index, backend) in &tables.maglev {
        maglev.set(*index, backend, 0)?;
    }
    let mut backends: Array<_, Backend> = map_mut(ebpf, name::BACKENDS)?;
    for (index, backend) in &tables.backends {
        backends.set(*index, backend, 0)?;
    }
    let mut interest: Array<_, u64> = map_mut(ebpf, name::INTEREST)?;
    for bit in &tables.interest {
        let word = interest.get(&bit.word, 0)?;
        interest.set(bit.word, word | bit.mask, 0)?;
    }
    for (bits, range) in &tables.source_ranges {
        insert_prefix(ebpf, name::SOURCE_RANGES, u32::try_from(*bits)?, *range, 1_u32)?;
    }
    Ok(())
}

fn insert<V: Pod>(ebpf: &mut Ebpf, [four, six]: [&str; 2], address: IpAddr, value: V) -> Result<()> {
    match address {
        IpAddr::V4(address) => {
            let mut map: HashMap<&mut MapData, [u8; 4], V> = map_mut(ebpf, four)?;
            map.insert(address.octets(), value, 0)?;
        }
        IpAddr::V6(address) => {
            let mut map: HashMap<&mut MapData, [u8; 16], V> = map_mut(ebpf, six)?;
            map.insert(address.octets(), value, 0)?;
        }
    }
    Ok(())
}

fn insert_prefix<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str, bits: u32, data: K, value: V) -> Result<()> {
    let mut map: LpmTrie<&mut MapData, K, V> = map_mut(ebpf, name)?;
    map.insert(&Key::new(bits, data), value, 0).with_context(|| format!("insert into {name}"))
}
