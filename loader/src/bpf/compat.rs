//! Whether a pinned map is the one that an object defines. The kernel takes any map that is pinned where one is expected,
//! and the programs then fail in ways that nobody can read: a map of another size, or with values of another length.

use std::{collections::HashMap, fmt, io, path::Path};

use aya::maps::MapInfo;
use aya_obj::Object;
use common::maps::{flow_sets, name};

use super::{BpfError, hash_map::errno, pins};
use crate::desired::Capacities;

/// What makes two maps interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    kind: u32,
    key_size: u32,
    value_size: u32,
    pub(super) max_entries: u32,
    flags: u32,
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key_size, value_size, max_entries, flags } = self;
        write!(f, "type {kind}, {max_entries} entries of {key_size} + {value_size} bytes, flags {flags:#x}")
    }
}

impl Definition {
    /// Whether they differ in nothing but their sizes.
    pub(super) fn is_resized(&self, other: &Self) -> bool {
        Self { max_entries: other.max_entries, ..*self } == *other
    }
}

/// Definitions, by name, of the maps of `object` that are pinned, with the sizes that are configured.
pub(super) fn definitions(
    object: &[u8],
    capacities: &Capacities,
) -> Result<HashMap<&'static str, Definition>, BpfError> {
    let parsed =
        Object::parse(object).map_err(|error| BpfError::Object { what: format!("is damaged: {error}") })?;
    let mut definitions = HashMap::new();
    for map in name::ALL {
        let Some(defined) = parsed.maps.get(map) else {
            return Err(BpfError::Object { what: format!("has no map {map}") });
        };
        let definition = Definition {
            kind: defined.map_type(),
            key_size: defined.key_size(),
            value_size: defined.value_size(),
            max_entries: capacity(capacities, map).unwrap_or_else(|| defined.max_entries()),
            flags: defined.map_flags(),
        };
        definitions.insert(map, definition);
    }
    Ok(definitions)
}

/// A map that is pinned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinned {
    /// Its number in the kernel.
    pub(super) id: u32,
    /// What it is.
    pub(super) definition: Definition,
}

/// The map pinned at `path`; none if nothing is there. A map that can't be opened is an error: it has what nobody could tell again.
pub(super) fn pinned(path: &Path) -> Result<Option<Pinned>, BpfError> {
    let info = match MapInfo::from_pin(path).map_err(errno) {
        Ok(info) => info,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(pins::failed("open the map pinned at", path)(error)),
    };
    let definition = Definition {
        // A type that this loader does not know is none that it wants.
        kind: info.map_type().map_or(u32::MAX, |kind| kind as u32),
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
        flags: info.map_flags(),
    };
    Ok(Some(Pinned { id: info.id(), definition }))
}

/// The configured size of a map; none if it is not configurable.
pub(super) fn capacity(capacities: &Capacities, map: &str) -> Option<u32> {
    match map {
        name::PODS4 | name::PODS6 | name::POD_TRAFFIC => Some(capacities.pods),
        name::VTEPS4 | name::VTEPS6 | name::PEER_TRAFFIC => Some(capacities.peers),
        name::ROUTES4 | name::ROUTES6 => Some(capacities.routes),
        name::SOURCES4 | name::SOURCES6 => Some(capacities.sources),
        name::SERVICES => Some(capacities.services),
        name::FRONTENDS => Some(capacities.frontends),
        name::BACKENDS => Some(capacities.backends),
        name::MAGLEV => Some(capacities.maglev),
        name::SOURCE_RANGES => Some(capacities.source_ranges),
        name::CONNTRACK4 | name::CONNTRACK6 => Some(capacities.conntrack),
        name::AFFINITY => Some(capacities.affinity),
        name::FRAGMENTS => Some(capacities.fragments),
        name::SOCKETS | name::SOCKET_CHOICES => Some(capacities.sockets),
        name::FLOWS4 | name::FLOWS6 => Some(flow_sets(capacities.flows)),
        // The node's own, too.
        name::NAMESPACES => Some(capacities.pods.saturating_add(1)),
        _ => None,
    }
}
