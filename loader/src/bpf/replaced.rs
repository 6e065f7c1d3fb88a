//! What becomes of the maps that a start finds pinned: adopted, or made anew beside the pinned ones until the programs with the new ones
//! are attached.

use std::collections::HashMap;

use common::maps::name;

use super::{
    BpfError,
    compat::{Definition, Pinned, pinned},
    pins,
    revisions::{self, Revisions},
};
use crate::paths::NodePaths;

/// Maps that refer to each other's elements by number. If one of them is made anew all are: the programs that are attached
/// go by the old ones until others take over, and a number of a new one says something else there.
const OF_SERVICES: [&str; 5] =
    [name::BACKENDS, name::FRONTENDS, name::MAGLEV, name::SERVICES, name::SOURCE_RANGES];

/// Maps of connections, and of what is known of them: what programs alone know.
const OF_CONNECTIONS: [&str; 6] = [
    name::AFFINITY,
    name::CONNTRACK4,
    name::CONNTRACK6,
    name::FRAGMENTS,
    name::SOCKETS,
    name::SOCKET_CHOICES,
];

/// Maps that can't be the pinned ones, and where their entries come from.
#[derive(Default)]
pub(super) struct Replaced {
    /// All of them.
    pub(super) all: Vec<&'static str>,
    /// Those that can have what is in the pinned ones.
    pub(super) carried: Vec<&'static str>,
    /// Maps, also such as are not replaced, that can have what is in one [set aside](pins::aside).
    pub(super) aside: Vec<&'static str>,
}

/// Which pinned maps can't be used. What a start that came to nothing has left beside them is removed, except for connections:
/// programs with that start's maps may have been attached, and then these alone know the connections that have begun since.
pub(super) fn incompatible(
    wanted: &HashMap<&'static str, Definition>,
    paths: &NodePaths,
) -> Result<Replaced, BpfError> {
    let mut replaced = Replaced::default();
    let mut usable = Vec::new();
    let revisions = Revisions::read(paths);
    // Elements that others refer to by number have to fit in.
    let mut services_fit = true;
    for map in name::ALL {
        let pin = paths.map(map);
        let Some(defined) = wanted.get(map) else { continue };
        let found = pinned(&pin)?;
        let is_used = found.is_some_and(|found| found.definition == *defined && revisions.has(map, found.id));
        if keep_what_was_begun(map, defined, found.is_some() && !is_used, paths)? {
            replaced.aside.push(map);
        }
        let Some(Pinned { definition: found, id }) = found else {
            services_fit &= !OF_SERVICES.contains(&map);
            continue;
        };
        let is_resized = found.is_resized(defined) && revisions.has(map, id);
        if OF_SERVICES.contains(&map) {
            services_fit &= is_resized && found.max_entries <= defined.max_entries;
        }
        if is_used {
            usable.push(map);
            continue;
        }
        if found == *defined {
            log::info!(
                "map {map} is made anew: its entries may mean something else than those of the pinned one"
            );
        } else {
            log::info!("map {map} is made anew: {defined}, where the pinned one is {found}");
        }
        replaced.all.push(map);
        if is_resized && !OF_SERVICES.contains(&map) {
            replaced.carried.push(map);
        }
    }
    if OF_SERVICES.iter().any(|map| replaced.all.contains(map)) {
        replaced.all.extend(OF_SERVICES.iter().filter(|map| usable.contains(map)));
        if services_fit {
            replaced.carried.extend(OF_SERVICES);
        } else {
            log::warn!(
                "the maps of services can't take over what is in the old ones: services begin anew, and connections with them end"
            );
        }
    }
    Ok(replaced)
}

/// Deals with what a start that came to nothing has left beside a pinned map. If that is what this start would make, it stays, and is
/// what this start gets. Else, if it has connections that can be carried, it is set aside, which is one step, so that they are pinned all
/// the time. Returns whether there is one aside.
fn keep_what_was_begun(
    map: &'static str,
    defined: &Definition,
    is_replaced: bool,
    paths: &NodePaths,
) -> Result<bool, BpfError> {
    let pin = paths.map(map);
    let (next, aside) = (pins::next(&pin), pins::aside(&pin));
    // Nobody remembers which revision one is of that never took its place.
    if !OF_CONNECTIONS.contains(&map) || revisions::of(map) > 0 {
        pins::remove(&next)?;
        return Ok(false);
    }
    match pinned(&next)? {
        Some(begun) if is_replaced && begun.definition == *defined => {}
        // Of two that are not what is wanted the later one stays: the earlier was carried when that was filled.
        Some(begun) if begun.definition.is_resized(defined) => pins::rename(&next, &aside)?,
        _ => pins::remove(&next)?,
    }
    let is_aside = pinned(&aside)?.is_some_and(|aside| aside.definition.is_resized(defined));
    if !is_aside {
        pins::remove(&aside)?;
    }
    Ok(is_aside)
}
