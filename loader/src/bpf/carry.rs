//! What maps of another size take over from those whose places they are to take: what nobody could tell them again. So
//! connections go on with them, and services stay what their connections know them by.

use std::{io, os::fd::AsFd as _, path::Path};

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
    pinned_array, pins,
    replaced::Replaced,
};
use crate::{
    paths::NodePaths,
    sync::{MapOps, ServiceMaps, Shared},
};

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

/// Adds what maps of connections that are pinned, or set aside, have to those of `ebpf` that are to take their places, if they don't
/// have it yet. Returns how many entries have no room there.
pub(super) fn connections(ebpf: &mut Ebpf, to: &Replaced, paths: &NodePaths) -> Result<usize, BpfError> {
    // What was set aside is newer: programs were attached that used it, and not the pinned one.
    let aside = to.aside.iter().map(|map| (*map, pins::aside(&paths.map(map))));
    let pinned = to.carried.iter().map(|map| (*map, paths.map(map)));
    let mut left = 0;
    for (map, from) in aside.chain(pinned) {
        left += match map {
            name::AFFINITY => add::<Client, Affinity>(ebpf, map, &from)?,
            name::CONNTRACK4 => add::<Tuple<[u8; 4]>, Connection<[u8; 4]>>(ebpf, map, &from)?,
            name::CONNTRACK6 => add::<Tuple<[u8; 16]>, Connection<[u8; 16]>>(ebpf, map, &from)?,
            name::FRAGMENTS => add::<FragmentKey, FragmentPorts>(ebpf, map, &from)?,
            name::SOCKETS => add::<SocketKey, Resolved>(ebpf, map, &from)?,
            name::SOCKET_CHOICES => add::<SocketKey, Choice>(ebpf, map, &from)?,
            _ => 0,
        };
    }
    Ok(left)
}

fn add<K: Pod, V: Pod>(ebpf: &mut Ebpf, map: &'static str, from: &Path) -> Result<usize, BpfError> {
    let old = match MapData::from_pin(from) {
        Ok(old) => old,
        // Somebody has taken it away. What the programs with it knew is gone.
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            return Ok(0);
        }
        Err(error) => return Err(failed(map)(error)),
    };
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
