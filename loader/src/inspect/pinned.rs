//! Maps, opened by their pins.

use std::{fmt::Display, io, path::Path};

use anyhow::{Context as _, Error};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues, lpm_trie::LpmTrie},
};
use common::maps::{
    Connection, Endpoint, Frontend, FrontendKey, HelperError, Route, Source, SourceRange, Tuple, Vtep, name,
};

use crate::{
    conntrack::{Table, table::Address},
    paths::NodePaths,
};

/// Values of a per-CPU array, by index.
pub(super) type PerCpu<V> = PerCpuArray<MapData, V>;

/// Opens a map.
pub(super) fn data(paths: &NodePaths, map: &str) -> anyhow::Result<MapData> {
    let path = paths.map(map);
    MapData::from_pin(&path).map_err(|error| explain(error.into(), map, &path, paths.node()))
}

/// Opens a per-CPU array.
pub(super) fn per_cpu_array<V: Pod>(paths: &NodePaths, map: &str) -> anyhow::Result<PerCpu<V>> {
    typed(paths, map, PerCpuArray::try_from)
}

/// Opens a per-CPU hash.
pub(super) fn per_cpu_hash<K: Pod, V: Pod>(
    paths: &NodePaths,
    map: &str,
) -> anyhow::Result<PerCpuHashMap<MapData, K, V>> {
    typed(paths, map, PerCpuHashMap::try_from)
}

fn typed<T>(paths: &NodePaths, map: &str, as_type: impl Fn(Map) -> Result<T, MapError>) -> anyhow::Result<T> {
    let opened = Map::from_map_data(data(paths, map)?).and_then(as_type);
    opened.map_err(|error| other_version(error, &paths.map(map), paths.node()))
}

/// The values of one index, one for each CPU.
pub(super) fn values<V: Pod>(array: &PerCpu<V>, index: u32, map: &str) -> anyhow::Result<PerCpuValues<V>> {
    array.get(&index, 0).with_context(|| format!("read entry {index} of map {map}"))
}

/// How many entries a map has; `None` for an array, which always has all.
pub(super) fn entries(paths: &NodePaths, map: &'static str) -> anyhow::Result<Option<u32>> {
    let count = match map {
        name::PODS4 => hash::<[u8; 4], Endpoint>(paths, map)?,
        name::PODS6 => hash::<[u8; 16], Endpoint>(paths, map)?,
        name::VTEPS4 => hash::<[u8; 4], Vtep>(paths, map)?,
        name::VTEPS6 => hash::<[u8; 16], Vtep>(paths, map)?,
        name::ROUTES4 => trie::<[u8; 4], Route>(paths, map)?,
        name::ROUTES6 => trie::<[u8; 16], Route>(paths, map)?,
        name::SOURCES4 => trie::<Source<[u8; 4]>, u32>(paths, map)?,
        name::SOURCES6 => trie::<Source<[u8; 16]>, u32>(paths, map)?,
        name::FRONTENDS => hash::<FrontendKey, Frontend>(paths, map)?,
        name::SOURCE_RANGES => trie::<SourceRange, u32>(paths, map)?,
        name::CONNTRACK4 => connections::<[u8; 4]>(paths)?,
        name::CONNTRACK6 => connections::<[u8; 16]>(paths)?,
        name::ERRORS => count(per_cpu_hash::<HelperError, u64>(paths, map)?.keys(), map)?,
        _ => return Ok(None),
    };
    Ok(Some(count))
}

fn hash<K: Pod, V: Pod>(paths: &NodePaths, map: &str) -> anyhow::Result<u32> {
    let opened: HashMap<_, K, V> = typed(paths, map, HashMap::try_from)?;
    count(opened.keys(), map)
}

fn trie<K: Pod, V: Pod>(paths: &NodePaths, map: &str) -> anyhow::Result<u32> {
    let opened: LpmTrie<_, K, V> = typed(paths, map, LpmTrie::try_from)?;
    count(opened.keys(), map)
}

/// In batches: there may be a great many.
fn connections<A: Address>(paths: &NodePaths) -> anyhow::Result<u32>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let mut count = 0;
    Table::<A>::open(paths)?.for_each(|_| count += 1)?;
    Ok(count)
}

fn count<K>(mut keys: impl Iterator<Item = Result<K, MapError>>, map: &str) -> anyhow::Result<u32> {
    let count = keys.try_fold(0, |count, key| key.map(|_| count + 1));
    count.with_context(|| format!("count the entries of map {map}"))
}

fn explain(error: Error, map: &str, path: &Path, node: &str) -> Error {
    let errno = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let path = path.display();
    match errno {
        Some(io::ErrorKind::NotFound) => hint(
            error,
            format_args!(
                "no map {map} at {path}: no dataplane of node {node} is loaded; start it with `loader run --config FILE`"
            ),
        ),
        Some(io::ErrorKind::PermissionDenied) => {
            hint(error, format_args!("open map {map} at {path}; run as root (CAP_BPF)"))
        }
        _ => hint(error, format_args!("open map {map} at {path}")),
    }
}

fn other_version(error: MapError, path: &Path, node: &str) -> Error {
    let path = path.display();
    let what =
        format!("the map at {path} is that of another version; run this version's loader for node {node}");
    Error::new(error).context(what)
}

fn hint(error: Error, what: impl Display) -> Error {
    error.context(what.to_string())
}
