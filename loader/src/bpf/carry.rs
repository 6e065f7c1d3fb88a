//! What maps of another size take over from those whose places they are to take: what nobody could tell them again. So
//! connections go on with them, and services stay what their connections know them by.

use std::os::fd::AsFd as _;

use aya::{
    Ebpf, Pod,
    maps::{HashMap as BpfHashMap, LpmTrie, Map, MapData, MapError},
};
use common::maps::{
    Affinity, Backend, Choice, Client, Connection, FragmentKey, FragmentPorts, Frontend, FrontendKey,
    Resolved, Service, SocketKey, Tuple, name,
};

use super::{
    BpfError, batch,
    hash_map::{Hash, errno},
    lpm_map::Lpm,
    pinned_array,
};
use crate::{
    paths::NodePaths,
    sync::{MapOps, ServiceMaps, Shared},
};

/// Maps that refer to each other's elements by number. If one of them is made anew all are: the programs that are attached
/// go by the old ones until others take over, and a number of a new one says something else there.
pub(super) const OF_SERVICES: [&str; 5] =
    [name::BACKENDS, name::FRONTENDS, name::MAGLEV, name::SERVICES, name::SOURCE_RANGES];

/// `linux/bpf.h`: an entry that is there stays as it is.
const BPF_NOEXIST: u64 = 1;

/// Fills empty maps of services with what the pinned ones have.
pub(super) fn services(maps: &mut ServiceMaps, paths: &NodePaths) -> Result<(), BpfError> {
    array(&maps.backends, name::BACKENDS, size_of::<Backend>(), paths)?;
    array(&maps.maglev, name::MAGLEV, size_of::<u32>(), paths)?;
    array(&maps.services, name::SERVICES, size_of::<Service>(), paths)?;
    let map: BpfHashMap<MapData, FrontendKey, Frontend> = pinned(name::FRONTENDS, paths)?;
    all(&Hash { name: name::FRONTENDS, capacity: 0, map }, &mut *maps.frontends)?;
    let map: LpmTrie<MapData, [u8; 20], u32> = pinned(name::SOURCE_RANGES, paths)?;
    all(&Lpm { name: name::SOURCE_RANGES, capacity: 0, map }, &mut *maps.source_ranges)
}

/// Adds what pinned maps of connections have to those of `maps` that are to take their places, if they don't have it yet. Returns how
/// many entries have no room there.
pub(super) fn connections(
    ebpf: &mut Ebpf,
    maps: &[&'static str],
    paths: &NodePaths,
) -> Result<usize, BpfError> {
    let mut left = 0;
    for map in maps {
        left += match *map {
            name::AFFINITY => add::<Client, Affinity>(ebpf, map, paths)?,
            name::CONNTRACK4 => add::<Tuple<[u8; 4]>, Connection<[u8; 4]>>(ebpf, map, paths)?,
            name::CONNTRACK6 => add::<Tuple<[u8; 16]>, Connection<[u8; 16]>>(ebpf, map, paths)?,
            name::FRAGMENTS => add::<FragmentKey, FragmentPorts>(ebpf, map, paths)?,
            name::SOCKETS => add::<SocketKey, Resolved>(ebpf, map, paths)?,
            name::SOCKET_CHOICES => add::<SocketKey, Choice>(ebpf, map, paths)?,
            _ => 0,
        };
    }
    Ok(left)
}

fn add<K: Pod, V: Pod>(ebpf: &mut Ebpf, map: &'static str, paths: &NodePaths) -> Result<usize, BpfError> {
    let old = MapData::from_pin(paths.map(map)).map_err(failed(map))?;
    let new = ebpf.map_mut(map).ok_or_else(|| BpfError::Object { what: format!("has no map {map}") })?;
    let mut new: BpfHashMap<&mut MapData, K, V> = new.try_into().map_err(failed(map))?;
    let (mut left, mut failure) = (0, None);
    let copied = batch::for_each(old.fd().as_fd(), |key: K, value: V| {
        let Err(error) = new.insert(key, value, BPF_NOEXIST) else { return };
        let error = errno(error);
        match error.raw_os_error() {
            Some(libc::EEXIST) => {}
            Some(libc::E2BIG) => left += 1,
            _ => failure = Some(error),
        }
    });
    copied.and(failure.map_or(Ok(left), Err)).map_err(|error| failed(map)(error.into()))
}

fn array(to: &Shared, map: &'static str, value_size: usize, paths: &NodePaths) -> Result<(), BpfError> {
    let from = pinned_array(paths, map, value_size).map_err(|error| failed(map)(error.into()))?;
    to.copy(&from);
    Ok(())
}

fn all<K: Ord, V>(from: &dyn MapOps<K, V>, to: &mut dyn MapOps<K, V>) -> Result<(), BpfError> {
    let copied =
        from.list().and_then(|entries| entries.iter().try_for_each(|(key, value)| to.insert(key, value)));
    copied.map_err(|error| failed(from.name())(error.into()))
}

fn pinned<M: TryFrom<Map, Error = MapError>>(map: &'static str, paths: &NodePaths) -> Result<M, BpfError> {
    let open = || M::try_from(Map::from_map_data(MapData::from_pin(paths.map(map))?)?);
    open().map_err(failed(map))
}

fn failed(map: &'static str) -> impl Fn(MapError) -> BpfError {
    move |source| BpfError::Map { call: "copy what is in", map, source }
}
