//! A service port as it is in the maps, and what has to be had before it can change.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use common::maps::{FrontendKey, Selection, name, service_flag};
use thiserror::Error;

use super::{Room, frontends, ranges::Range, recover::Recovered};
use crate::{
    desired::services::{Candidates, Exposure, Kind, ServicePort},
    maglev,
    sync::apply::capacity_key,
};

/// A service port as it is in the maps.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// What was asked for.
    pub(super) wanted: ServicePort,
    /// Whether all of it was done.
    pub(super) complete: bool,
    /// Its number.
    pub(super) group: u32,
    /// Elements of `backends`, by address and port.
    pub(super) backends: BTreeMap<(IpAddr, u16), u32>,
    /// Elements of `maglev`.
    pub(super) tables: Vec<Table>,
    /// Elements of `services`, by kind.
    pub(super) services: BTreeMap<Kind, u32>,
}

/// A table of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Who is in it, with his weight.
    members: Vec<(u32, u16)>,
    random: bool,
    /// Where it is.
    pub(super) range: Range,
}

/// A service port as it is to be, with everything that it needs.
pub(super) struct Plan {
    /// As it is, if it is there.
    pub(super) old: Option<Port>,
    /// As it is to be.
    pub(super) new: Port,
    /// What of that is new.
    pub(super) fresh: Fresh,
}

/// What nobody had before.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) group: Option<u32>,
    pub(super) backends: HashSet<u32>,
    pub(super) services: HashSet<u32>,
    /// With what is to be written there.
    pub(super) tables: Vec<(Range, Vec<u32>)>,
}

/// A map is too small for a service.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{service}: map {map} has room for {free} of {wanted} new entries: raise `{}` in [maps]; it stays as it was",
    capacity_key(map)
)]
pub(super) struct NoRoom {
    service: String,
    map: &'static str,
    wanted: usize,
    free: usize,
}

/// How a service port is called in messages.
pub(super) fn title(port: &ServicePort) -> String {
    let ServicePort { service, protocol, port, family, .. } = port;
    format!("service {service}, port {port}/{protocol:?} ({family:?})")
}

impl Port {
    /// The frontends of all kinds, each with the service that it is.
    pub(super) fn frontends(&self) -> impl Iterator<Item = (FrontendKey, u32)> {
        self.wanted.exposures.iter().flat_map(|exposure| {
            let id = self.services.get(&exposure.kind).copied();
            frontends::keys(&self.wanted, exposure).filter_map(move |key| Some((key, id?)))
        })
    }

    /// What an exposure selects inside and outside.
    pub(super) fn selections(&self, exposure: &Exposure) -> (Selection, Selection) {
        (self.selection(&exposure.inside), self.selection(&exposure.outside))
    }

    fn selection(&self, candidates: &Candidates) -> Selection {
        let indices = match candidates {
            Candidates::Reject => return Selection::Reject,
            Candidates::Drop => return Selection::Drop,
            Candidates::Endpoints(indices) => indices,
        };
        let members = members(&self.wanted, &self.backends, indices);
        let table = self.tables.iter().find(|table| table.members == members);
        table.map_or(Selection::Reject, |table| Selection::Table {
            first: table.range.first,
            count: table.range.count,
        })
    }
}

/// Bits of [`service_flag`] of an exposure.
pub(super) fn flags(port: &ServicePort, exposure: &Exposure) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(port.random, service_flag::RANDOM)
        | bit(!exposure.source_ranges.is_empty(), service_flag::SOURCE_RANGES)
        | bit(exposure.inside_local, service_flag::INSIDE_LOCAL)
        | bit(exposure.outside_local, service_flag::OUTSIDE_LOCAL)
}

/// Gathers what `wanted` needs, keeping what `old` has. What was taken is given back if something is missing.
pub(super) fn plan(
    wanted: &ServicePort,
    old: Option<Port>,
    room: &mut Room,
    recovered: &mut Recovered,
    now: Instant,
) -> Result<Plan, (NoRoom, Option<Port>)> {
    let mut fresh = Fresh::default();
    match gather(wanted, old.as_ref(), room, recovered, &mut fresh, now) {
        Ok(new) => Ok(Plan { old, new, fresh }),
        Err((map, wanted_entries, free)) => {
            room.restore(fresh);
            Err((NoRoom { service: title(wanted), map, wanted: wanted_entries, free }, old))
        }
    }
}

/// Which map is too small, how many entries are wanted, and how many are free.
type Missing = (&'static str, usize, usize);

fn gather(
    wanted: &ServicePort,
    old: Option<&Port>,
    room: &mut Room,
    recovered: &mut Recovered,
    fresh: &mut Fresh,
    now: Instant,
) -> Result<Port, Missing> {
    let group = match old.map(|old| old.group).or_else(|| recovered.group(wanted, room)) {
        Some(group) => group,
        None => *fresh.group.insert(room.groups.take(now).ok_or((name::SERVICES, 1, 0))?),
    };
    let backends = backends(wanted, old, group, room, recovered, fresh, now)?;
    let mut port = Port {
        wanted: wanted.clone(),
        complete: false,
        group,
        backends,
        tables: Vec::new(),
        services: BTreeMap::new(),
    };
    for exposure in &wanted.exposures {
        let known = old.and_then(|old| old.services.get(&exposure.kind).copied());
        let id = match known.or_else(|| recovered.service(wanted, exposure, group, room)) {
            Some(id) => id,
            None => {
                let (missing, free) = (wanted.exposures.len(), room.services.free());
                let id = room.services.take(now).ok_or((name::SERVICES, missing, free))?;
                fresh.services.insert(id);
                id
            }
        };
        port.services.insert(exposure.kind, id);
    }
    for exposure in &wanted.exposures {
        for candidates in [&exposure.inside, &exposure.outside] {
            if let Candidates::Endpoints(indices) = candidates {
                add_table(&mut port, indices, old, room, recovered, fresh, now)?;
            }
        }
    }
    let missing = room.frontends.missing(port.frontends().map(|(key, _)| key));
    // One more for each address, as such.
    let addresses = frontends::own_addresses(wanted).count().min(missing);
    let free = room.frontends.free();
    if missing + addresses > free.saturating_sub(room.promised) {
        return Err((name::FRONTENDS, missing + addresses, free.saturating_sub(room.promised)));
    }
    room.promised += missing + addresses;
    Ok(port)
}

fn backends(
    wanted: &ServicePort,
    old: Option<&Port>,
    group: u32,
    room: &mut Room,
    recovered: &mut Recovered,
    fresh: &mut Fresh,
    now: Instant,
) -> Result<BTreeMap<(IpAddr, u16), u32>, Missing> {
    let mut backends = BTreeMap::new();
    for endpoint in &wanted.endpoints {
        let place = (endpoint.address, endpoint.port);
        let known = old.and_then(|old| old.backends.get(&place).copied());
        let id = match known.or_else(|| recovered.backend(group, endpoint.address, endpoint.port)) {
            Some(id) => id,
            None => {
                let free = room.backends.free();
                let missing = wanted.endpoints.len() - backends.len();
                let id = room.backends.take(now).ok_or((name::BACKENDS, missing, free))?;
                fresh.backends.insert(id);
                id
            }
        };
        backends.insert(place, id);
    }
    Ok(backends)
}

fn members(
    port: &ServicePort,
    backends: &BTreeMap<(IpAddr, u16), u32>,
    indices: &[usize],
) -> Vec<(u32, u16)> {
    let endpoints = indices.iter().filter_map(|index| port.endpoints.get(*index));
    endpoints
        .filter_map(|endpoint| Some((*backends.get(&(endpoint.address, endpoint.port))?, endpoint.weight)))
        .collect()
}

fn add_table(
    port: &mut Port,
    indices: &[usize],
    old: Option<&Port>,
    room: &mut Room,
    recovered: &mut Recovered,
    fresh: &mut Fresh,
    now: Instant,
) -> Result<(), Missing> {
    let members = members(&port.wanted, &port.backends, indices);
    let random = port.wanted.random;
    if port.tables.iter().any(|table| table.members == members) {
        return Ok(());
    }
    let same = |table: &&Table| table.members == members && table.random == random;
    if let Some(table) = old.and_then(|old| old.tables.iter().find(same)) {
        port.tables.push(table.clone());
        return Ok(());
    }
    let elements = elements(&port.wanted, indices, &members);
    let Ok(count) = u32::try_from(elements.len()) else { return Err((name::MAGLEV, elements.len(), 0)) };
    if count == 0 {
        return Ok(());
    }
    let range = match recovered.table(port.services.values().copied(), &elements, room) {
        Some(range) => range,
        None => {
            let free = usize::try_from(room.ranges.free()).unwrap_or(usize::MAX);
            let range = room.ranges.take(count, now).ok_or((name::MAGLEV, elements.len(), free))?;
            fresh.tables.push((range, elements));
            range
        }
    };
    port.tables.push(Table { members, random, range });
    Ok(())
}

/// What is written into `maglev`.
fn elements(port: &ServicePort, indices: &[usize], members: &[(u32, u16)]) -> Vec<u32> {
    let endpoints: Vec<(SocketAddr, u16)> = indices
        .iter()
        .filter_map(|index| port.endpoints.get(*index))
        .map(|endpoint| (SocketAddr::new(endpoint.address, endpoint.port), endpoint.weight))
        .collect();
    let order = if port.random { maglev::random(&endpoints) } else { maglev::table(&endpoints) };
    order.into_iter().filter_map(|index| members.get(usize::from(index)).map(|(id, _)| *id)).collect()
}
